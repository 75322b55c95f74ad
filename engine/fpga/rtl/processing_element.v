// Processing element of an output-stationary array: multiplies the operands that pass by and keeps the sum.
//
// Its row moves operands and flags on. Registers stand on both sides of the multiplier, because multiplier blocks lie in
// columns of their own, far from the rest. A finished sum is copied to the drain chain, which moves up one element a
// cycle, so the next sum begins at once. Nothing is enabled or reset: a bubble is a zero activation.
// Kept as a block of its own in synthesis: its copy of an operand equals the next element's, and must not be merged.
(* keep_hierarchy = "yes" *)
module processing_element #(
    parameter WIDTH       = 8,  // bits of an activation or weight
    parameter ACCUMULATOR = 32  // bits of a sum
) (
    input  wire                          clock,
    input  wire signed [WIDTH-1:0]       activation_in,
    input  wire signed [WIDTH-1:0]       weight_in,
    input  wire                          product_is_first,  // of its sum
    input  wire                          sum_is_done,
    input  wire signed [ACCUMULATOR-1:0] drain_in,          // from the element below
    output reg  signed [ACCUMULATOR-1:0] drain_out
);
    reg signed [WIDTH-1:0]       activation, weight;
    reg signed [2*WIDTH-1:0]     multiplied, product;
    reg signed [ACCUMULATOR-1:0] sum;

    wire signed [ACCUMULATOR-1:0] addend = {{(ACCUMULATOR - 2 * WIDTH) {product[2*WIDTH-1]}}, product};

    always @(posedge clock) begin
        activation <= activation_in;
        weight     <= weight_in;
        multiplied <= activation * weight;
        product    <= multiplied;
        sum        <= product_is_first ? addend : sum + addend;
        drain_out  <= sum_is_done ? sum : drain_in;
    end
endmodule
