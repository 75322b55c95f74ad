// Processing element of an output-stationary array: multiplies what passes by and keeps the sum.
//
// Activations travel right and weights down, one element a cycle. The flags travel with the activations: `first` on the
// first product of a sum, `last` on its last one. A finished sum is copied to the drain chain, which moves up one
// element a cycle, so the next sum begins at once. Nothing here is enabled or reset: a bubble is a zero activation.
// Kept as a block of its own in synthesis, because merging equal flags of different elements would turn them into
// nets of hundreds of loads.
(* keep_hierarchy = "yes" *)
module processing_element #(
    parameter WIDTH       = 8,  // bits of an activation or weight
    parameter ACCUMULATOR = 32  // bits of a sum
) (
    input  wire                          clock,
    input  wire signed [WIDTH-1:0]       activation_in,
    input  wire signed [WIDTH-1:0]       weight_in,
    input  wire                          first_in,
    input  wire                          last_in,
    input  wire signed [ACCUMULATOR-1:0] drain_in,
    output reg  signed [WIDTH-1:0]       activation_out,
    output reg  signed [WIDTH-1:0]       weight_out,
    output reg                           first_out,
    output reg                           last_out,
    output reg  signed [ACCUMULATOR-1:0] drain_out
);
    reg signed [2*WIDTH-1:0]     product;
    reg                          product_is_first;
    reg                          product_is_last;
    reg signed [ACCUMULATOR-1:0] sum;
    reg                          sum_is_done;

    wire signed [ACCUMULATOR-1:0] addend = {{(ACCUMULATOR - 2 * WIDTH) {product[2*WIDTH-1]}}, product};

    always @(posedge clock) begin
        // 1: take over the operands
        activation_out   <= activation_in;
        weight_out       <= weight_in;
        first_out        <= first_in;
        last_out         <= last_in;
        // 2: multiply
        product          <= activation_out * weight_out;
        product_is_first <= first_out;
        product_is_last  <= last_out;
        // 3: accumulate
        sum              <= product_is_first ? addend : sum + addend;
        sum_is_done      <= product_is_last;
        // 4: drain
        drain_out        <= sum_is_done ? sum : drain_in;
    end
endmodule
