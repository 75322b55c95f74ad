// N x N processing elements, row by row. Row i takes activations from its left edge, column j weights from its top edge,
// both already skewed (lane i comes i cycles after lane 0). Sums leave at the top of their column, row 0 first and one row
// every second cycle: row i's sum is ready i cycles after row 0's and has i elements to pass.
module systolic_array #(
    parameter N           = 8,
    parameter WIDTH       = 8,
    parameter ACCUMULATOR = 32
) (
    input  wire                     clock,
    input  wire [N*WIDTH-1:0]       activations,
    input  wire [N-1:0]             first,
    input  wire [N-1:0]             last,
    input  wire [N*WIDTH-1:0]       weights,
    output wire [N*ACCUMULATOR-1:0] drain
);
    genvar i;
    generate
        for (i = 0; i < N; i = i + 1) begin : row
            wire [N*WIDTH-1:0]       weights_in, weights_out;
            wire [N*ACCUMULATOR-1:0] drain_in, drain_out;

            if (i == 0) begin : top_edge
                assign weights_in = weights;
                assign drain      = drain_out;
            end else begin : from_above
                assign weights_in = row[i-1].weights_out;
            end

            if (i == N - 1) begin : bottom_edge
                assign drain_in = {(N * ACCUMULATOR) {1'b0}};
                wire unused = &weights_out;
            end else begin : from_below
                assign drain_in = row[i+1].drain_out;
            end

            systolic_row #(
                .N          (N),
                .WIDTH      (WIDTH),
                .ACCUMULATOR(ACCUMULATOR)
            ) elements (
                .clock        (clock),
                .activation_in(activations[i*WIDTH+:WIDTH]),
                .first_in     (first[i]),
                .last_in      (last[i]),
                .weights_in   (weights_in),
                .weights_out  (weights_out),
                .drain_in     (drain_in),
                .drain_out    (drain_out)
            );
        end
    endgenerate
endmodule
