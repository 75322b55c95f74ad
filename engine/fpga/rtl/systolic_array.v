// N x N processing elements. Row i takes activations from its left edge, column j weights from its top edge, both
// already skewed (lane i comes i cycles after lane 0). Sums leave at the top of their column, row 0 first and one row
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
    genvar i, j;
    generate
        for (i = 0; i < N; i = i + 1) begin : row
            for (j = 0; j < N; j = j + 1) begin : column
                wire [WIDTH-1:0]       activation_in, activation_out, weight_in, weight_out;
                wire                   first_in, first_out, last_in, last_out;
                wire [ACCUMULATOR-1:0] drain_in, drain_out;

                if (j == 0) begin : left_edge
                    assign activation_in = activations[i*WIDTH+:WIDTH];
                    assign first_in      = first[i];
                    assign last_in       = last[i];
                end else begin : from_the_left
                    assign activation_in = row[i].column[j-1].activation_out;
                    assign first_in      = row[i].column[j-1].first_out;
                    assign last_in       = row[i].column[j-1].last_out;
                end

                if (i == 0) begin : top_edge
                    assign weight_in                         = weights[j*WIDTH+:WIDTH];
                    assign drain[j*ACCUMULATOR+:ACCUMULATOR] = drain_out;
                end else begin : from_above
                    assign weight_in = row[i-1].column[j].weight_out;
                end

                if (j == N - 1) begin : right_edge
                    wire unused = &{activation_out, first_out, last_out};
                end

                if (i == N - 1) begin : bottom_edge
                    assign drain_in = {ACCUMULATOR{1'b0}};
                    wire unused = &weight_out;
                end else begin : from_below
                    assign drain_in = row[i+1].column[j].drain_out;
                end

                processing_element #(
                    .WIDTH      (WIDTH),
                    .ACCUMULATOR(ACCUMULATOR)
                ) element (
                    .clock         (clock),
                    .activation_in (activation_in),
                    .weight_in     (weight_in),
                    .first_in      (first_in),
                    .last_in       (last_in),
                    .drain_in      (drain_in),
                    .activation_out(activation_out),
                    .weight_out    (weight_out),
                    .first_out     (first_out),
                    .last_out      (last_out),
                    .drain_out     (drain_out)
                );
            end
        end
    endgenerate
endmodule
