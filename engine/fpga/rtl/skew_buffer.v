// Turns a column of N lanes into a wavefront: lane i comes i cycles after lane 0 (FORWARD = 1),
// or a wavefront back into a column: lane i waits N - 1 - i cycles (FORWARD = 0).
module skew_buffer #(
    parameter N       = 8,
    parameter WIDTH   = 8,
    parameter FORWARD = 1
) (
    input  wire               clock,
    input  wire [N*WIDTH-1:0] in,
    output wire [N*WIDTH-1:0] out
);
    genvar i;
    generate
        for (i = 0; i < N; i = i + 1) begin : lane
            delay_line #(
                .WIDTH (WIDTH),
                .STAGES(FORWARD ? i : N - 1 - i)
            ) line (
                .clock(clock),
                .in   (in[i*WIDTH+:WIDTH]),
                .out  (out[i*WIDTH+:WIDTH])
            );
        end
    endgenerate
endmodule
