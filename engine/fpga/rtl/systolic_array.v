// N x N processing elements, output-stationary: element (i, j), kept at [i*N+j], multiplies the operands that pass by and
// keeps the sum. Activations go right one element a cycle, weights go down one element a cycle, both already skewed
// (lane i comes i cycles after lane 0). Finished sums are copied to the drain chain, which moves up one element a cycle, so
// the next sum begins at once: sums leave at the top of their column, row 0 first and one row every second cycle, because
// row i's sum is ready i cycles after row 0's and has i elements to pass. Nothing is enabled or reset: a bubble is a zero
// activation.
//
// Registers stand on both sides of a multiplier, because multiplier blocks lie in columns of their own, far from the rest.
// Flags travel with the activations and then along the element's pipeline: `first` on the first product of a sum, `last` on
// its last one. Kept as a block of its own in synthesis, because merging the equal flags of different rows would turn them
// into nets of hundreds of loads.
//
// Operands are kept sign-extended to the product's width (the copies of a sign are one register in hardware), and the array
// is one module of plain arrays, each shifted as a whole: of a module for each element Verilator makes twice the instructions.
// What is computed stands in loops that Verilator leaves alone, over an unsigned index and without a branch, so that the
// compiler makes vectors of them.
(* keep_hierarchy = "yes" *)
module systolic_array #(
    parameter N           = 8,
    parameter WIDTH       = 8,  // bits of an activation or weight
    parameter ACCUMULATOR = 32  // bits of a sum
) (
    input  wire                     clock,
    input  wire [N*WIDTH-1:0]       activations,  // lane i to row i
    input  wire [N-1:0]             first,        // of its sum
    input  wire [N-1:0]             last,
    input  wire [N*WIDTH-1:0]       weights,      // lane j to column j
    output wire [N*ACCUMULATOR-1:0] drain         // column by column
);
    /* verilator no_inline_module */
    localparam PRODUCT = 2 * WIDTH;

    reg [PRODUCT-1:0]     activation[0:N*N-1], weight[0:N*N-1];
    reg [PRODUCT-1:0]     multiplied[0:N*N-1], product[0:N*N-1];
    reg [ACCUMULATOR-1:0] sum[0:N*N-1], drained[0:N*N-1];
    reg                   operand_is_first[0:N*N-1], multiplied_is_first[0:N*N-1], product_is_first[0:N*N-1];
    reg                   operand_is_last[0:N*N-1], multiplied_is_last[0:N*N-1], product_is_last[0:N*N-1];
    reg                   sum_is_done[0:N*N-1];
    reg [PRODUCT-1:0]     multiplied_next[0:N*N-1];
    reg [ACCUMULATOR-1:0] sum_next[0:N*N-1], drained_next[0:N*N-1];
    reg [31:0]            at;
    integer               i, j, e;

    // ---- each element multiplies and accumulates; sums drain upwards, and what lies between them means nothing ------
    always @* begin
        /* verilator unroll_disable */
        for (at = 0; at < N * N; at = at + 1) multiplied_next[at] = activation[at] * weight[at];
        /* verilator unroll_disable */
        for (at = 0; at < N * N; at = at + 1)
            sum_next[at] = (sum[at] & {ACCUMULATOR{!product_is_first[at]}})
                         + {{(ACCUMULATOR - PRODUCT) {product[at][PRODUCT-1]}}, product[at]};
        /* verilator unroll_disable */
        for (at = 0; at < N * N - N; at = at + 1)
            drained_next[at] = (sum[at] & {ACCUMULATOR{sum_is_done[at]}}) | (drained[at+N] & {ACCUMULATOR{!sum_is_done[at]}});
        /* verilator unroll_disable */
        for (at = N * N - N; at < N * N; at = at + 1) drained_next[at] = sum[at];
    end

    always @(posedge clock) begin
        // ---- operands pass: from the left edge to the right, from the top edge down ---------------------------------
        for (i = 0; i < N; i = i + 1) begin
            activation[i*N]       <= {{WIDTH{activations[i*WIDTH+WIDTH-1]}}, activations[i*WIDTH+:WIDTH]};
            operand_is_first[i*N] <= first[i];
            operand_is_last[i*N]  <= last[i];
            weight[i]             <= {{WIDTH{weights[i*WIDTH+WIDTH-1]}}, weights[i*WIDTH+:WIDTH]};
            for (j = 1; j < N; j = j + 1) begin
                activation[i*N+j]       <= activation[i*N+j-1];
                operand_is_first[i*N+j] <= operand_is_first[i*N+j-1];
                operand_is_last[i*N+j]  <= operand_is_last[i*N+j-1];
            end
        end
        for (e = N; e < N * N; e = e + 1) weight[e] <= weight[e-N];

        for (e = 0; e < N * N; e = e + 1) begin
            multiplied[e]          <= multiplied_next[e];
            product[e]             <= multiplied[e];
            multiplied_is_first[e] <= operand_is_first[e];
            product_is_first[e]    <= multiplied_is_first[e];
            multiplied_is_last[e]  <= operand_is_last[e];
            product_is_last[e]     <= multiplied_is_last[e];
            sum_is_done[e]         <= product_is_last[e];
            sum[e]                 <= sum_next[e];
            drained[e]             <= drained_next[e];
        end
    end

    genvar column;
    generate
        for (column = 0; column < N; column = column + 1) begin : top
            assign drain[column*ACCUMULATOR+:ACCUMULATOR] = drained[column];
        end
    endgenerate
endmodule
