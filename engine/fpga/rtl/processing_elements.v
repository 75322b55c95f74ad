// One row's processing elements, of an output-stationary array: element j multiplies the operands that pass by and keeps
// the sum.
//
// The row moves operands and flags on. Registers stand on both sides of a multiplier, because multiplier blocks lie in
// columns of their own, far from the rest. A finished sum is copied to the drain chain, which moves up one element a
// cycle, so the next sum begins at once. Nothing is enabled or reset: a bubble is a zero activation.
// Kept as a block of its own in synthesis: an element's copy of an operand equals the row's next one, and must not be merged.
// Arrays and not a module for each element: Verilator's C++ of an array is made vector instructions by the compiler.
(* keep_hierarchy = "yes" *)
module processing_elements #(
    parameter N           = 8,
    parameter WIDTH       = 8,  // bits of an activation or weight
    parameter ACCUMULATOR = 32  // bits of a sum
) (
    input  wire                     clock,
    input  wire [N*WIDTH-1:0]       activations,
    input  wire [N*WIDTH-1:0]       weights,
    input  wire [N-1:0]             product_is_first,  // of its sum
    input  wire [N-1:0]             sum_is_done,
    input  wire [N*ACCUMULATOR-1:0] drain_in,          // from the elements below
    output wire [N*ACCUMULATOR-1:0] drain_out
);
    /* verilator no_inline_module */
    reg signed [WIDTH-1:0]       activation[0:N-1], weight[0:N-1];
    reg signed [2*WIDTH-1:0]     multiplied[0:N-1], product[0:N-1];
    reg signed [ACCUMULATOR-1:0] sum[0:N-1], drain[0:N-1];
    integer                      j;

    always @(posedge clock)
        for (j = 0; j < N; j = j + 1) begin
            activation[j] <= activations[j*WIDTH+:WIDTH];
            weight[j]     <= weights[j*WIDTH+:WIDTH];
            multiplied[j] <= activation[j] * weight[j];
            product[j]    <= multiplied[j];
            sum[j]        <= (sum[j] & {ACCUMULATOR{!product_is_first[j]}})
                           + {{(ACCUMULATOR - 2 * WIDTH) {product[j][2*WIDTH-1]}}, product[j]};
            drain[j]      <= sum_is_done[j] ? sum[j] : drain_in[j*ACCUMULATOR+:ACCUMULATOR];
        end

    genvar lane;
    generate
        for (lane = 0; lane < N; lane = lane + 1) begin : column
            assign drain_out[lane*ACCUMULATOR+:ACCUMULATOR] = drain[lane];
        end
    endgenerate
endmodule
