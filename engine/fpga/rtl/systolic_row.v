// One row of the array: N processing elements and the registers that move operands and flags past them. Activations and
// flags go right one element a cycle, weights go down one row a cycle, drained sums go up.
//
// The flags travel with the activations and then along the element's pipeline: `first` on the first product of a sum,
// `last` on its last one. Kept as a block of its own in synthesis, because merging the equal flags of different rows
// would turn them into nets of hundreds of loads.
(* keep_hierarchy = "yes" *)
module systolic_row #(
    parameter N           = 8,
    parameter WIDTH       = 8,
    parameter ACCUMULATOR = 32
) (
    input  wire                     clock,
    input  wire [WIDTH-1:0]         activation_in,
    input  wire                     first_in,
    input  wire                     last_in,
    input  wire [N*WIDTH-1:0]       weights_in,
    output reg  [N*WIDTH-1:0]       weights_out,
    input  wire [N*ACCUMULATOR-1:0] drain_in,
    output wire [N*ACCUMULATOR-1:0] drain_out
);
    reg [N*WIDTH-1:0] activations;
    reg [N-1:0]       first, operand_is_first, multiplied_is_first, product_is_first;
    reg [N-1:0]       last, operand_is_last, multiplied_is_last, product_is_last, sum_is_done;

    always @(posedge clock) begin
        activations         <= {activations[(N-1)*WIDTH-1:0], activation_in};
        weights_out         <= weights_in;
        first               <= {first[N-2:0], first_in};
        operand_is_first    <= first;
        multiplied_is_first <= operand_is_first;
        product_is_first    <= multiplied_is_first;
        last                <= {last[N-2:0], last_in};
        operand_is_last     <= last;
        multiplied_is_last  <= operand_is_last;
        product_is_last     <= multiplied_is_last;
        sum_is_done         <= product_is_last;
    end

    processing_elements #(
        .N          (N),
        .WIDTH      (WIDTH),
        .ACCUMULATOR(ACCUMULATOR)
    ) elements (
        .clock           (clock),
        .activations     (activations),
        .weights         (weights_out),
        .product_is_first(product_is_first),
        .sum_is_done     (sum_is_done),
        .drain_in        (drain_in),
        .drain_out       (drain_out)
    );
endmodule
