// Processing element of an output-stationary array: multiplies the operands that pass by and keeps the sum.
//
// Its row moves operands and flags on; they arrive here from registers. A finished sum is copied to the drain chain,
// which moves up one element a cycle, so the next sum begins at once. Nothing is enabled or reset: a bubble is a zero
// activation.
module processing_element #(
    parameter WIDTH       = 8,  // bits of an activation or weight
    parameter ACCUMULATOR = 32  // bits of a sum
) (
    input  wire                          clock,
    input  wire signed [WIDTH-1:0]       activation,
    input  wire signed [WIDTH-1:0]       weight,
    input  wire                          product_is_first,  // of its sum
    input  wire                          sum_is_done,
    input  wire signed [ACCUMULATOR-1:0] drain_in,          // from the element below
    output reg  signed [ACCUMULATOR-1:0] drain_out
);
    reg signed [2*WIDTH-1:0]     product;
    reg signed [ACCUMULATOR-1:0] sum;

    wire signed [ACCUMULATOR-1:0] addend = {{(ACCUMULATOR - 2 * WIDTH) {product[2*WIDTH-1]}}, product};

    always @(posedge clock) begin
        product   <= activation * weight;
        sum       <= product_is_first ? addend : sum + addend;
        drain_out <= sum_is_done ? sum : drain_in;
    end
endmodule
