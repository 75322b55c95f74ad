// What happens to finished sums: one lane a column takes its column's drain and requantizes it, and the skewed results
// are put side by side again, N elements a word, in the order (column block, row tile, row).
// The token (valid, column block) passes from lane to lane with the wavefront, one cycle each.
module output_stage #(
    parameter N           = 8,
    parameter WIDTH       = 8,
    parameter ACCUMULATOR = 32,
    parameter MULTIPLIER  = 16,
    parameter SHIFT       = 6,
    parameter BLOCK       = 8    // bits of the number of a column block
) (
    input  wire                                    clock,
    input  wire                                    reset,
    input  wire                                    start,
    // constant while a GEMM runs
    input  wire [WIDTH-1:0]                        zero_point,
    input  wire                                    relu,
    // parameters of the channels of block `write_block`: those of the lanes set in `write`
    input  wire [N-1:0]                            write,
    input  wire [BLOCK-1:0]                        write_block,
    input  wire [ACCUMULATOR+MULTIPLIER+SHIFT-1:0] write_data,
    // in the cycle before row 0's sum stands at the top of column 0
    input  wire                                    tile_drains,
    input  wire                                    tile_ends_block,
    input  wire                                    tile_ends_gemm,
    input  wire [N*ACCUMULATOR-1:0]                drain,
    output wire                                    out_valid,
    output wire                                    out_is_final,
    output wire [N*WIDTH-1:0]                      out_word
);
    localparam REQUANTIZE = 15;             // cycles from a sum to its result
    localparam COUNT      = $clog2(2 * N);  // a tile drains in 2 N - 1 cycles, one row every second cycle

    // ---- the token of lane 0 ------------------------------------------------------------------------------------
    localparam [31:0] DRAIN = 2 * N - 1;

    reg             draining, row_is_due, ends_block, ends_gemm;
    reg [BLOCK-1:0] column_block;
    wire            drain_ends;

    down_counter #(.WIDTH(COUNT)) drain_counter (
        .clock(clock),
        .load (tile_drains),
        .value(DRAIN[COUNT-1:0]),
        .step (draining),
        .last (drain_ends)
    );

    always @(posedge clock) begin
        draining   <= !reset & (tile_drains | (draining & !drain_ends));
        row_is_due <= !reset & (tile_drains | (draining & !drain_ends & !row_is_due));
        if (tile_drains) begin
            ends_block <= tile_ends_block;
            ends_gemm  <= tile_ends_gemm;
        end
        if (start) column_block <= {BLOCK{1'b0}};
        else if (draining & drain_ends & ends_block) column_block <= column_block + 1'b1;
    end

    // ---- lanes --------------------------------------------------------------------------------------------------
    wire [N*WIDTH-1:0] skewed;

    genvar j;
    generate
        for (j = 0; j < N; j = j + 1) begin : lane
            wire                   valid;
            wire [BLOCK-1:0]       block;
            wire [ACCUMULATOR-1:0] bias;
            wire [MULTIPLIER-1:0]  multiplier;
            wire [SHIFT-1:0]       shift;

            if (j == 0) begin : first_lane
                assign valid = row_is_due;
                assign block = column_block;
            end else begin : next_lane
                reg             valid_here;
                reg [BLOCK-1:0] block_here;
                always @(posedge clock) begin
                    valid_here <= lane[j-1].valid;
                    block_here <= lane[j-1].block;
                end
                assign valid = valid_here;
                assign block = block_here;
            end

            channel_parameters #(
                .ACCUMULATOR(ACCUMULATOR),
                .MULTIPLIER (MULTIPLIER),
                .SHIFT      (SHIFT),
                .BLOCK      (BLOCK)
            ) parameters (
                .clock      (clock),
                .write      (write[j]),
                .write_block(write_block),
                .write_data (write_data),
                .block      (block),
                .bias       (bias),
                .multiplier (multiplier),
                .shift      (shift)
            );

            requantizer #(
                .WIDTH      (WIDTH),
                .ACCUMULATOR(ACCUMULATOR),
                .MULTIPLIER (MULTIPLIER),
                .SHIFT      (SHIFT)
            ) requantize (
                .clock     (clock),
                .valid     (valid),
                .sum       (drain[j*ACCUMULATOR+:ACCUMULATOR]),
                .bias      (bias),
                .multiplier(multiplier),
                .shift     (shift),
                .zero_point(zero_point),
                .relu      (relu),
                .result    (skewed[j*WIDTH+:WIDTH])
            );
        end
    endgenerate

    // ---- side by side again -------------------------------------------------------------------------------------
    skew_buffer #(
        .N      (N),
        .WIDTH  (WIDTH),
        .FORWARD(0)
    ) deskew (
        .clock(clock),
        .in   (skewed),
        .out  (out_word)
    );

    delay_line #(
        .WIDTH (2),
        .STAGES(N - 1 + REQUANTIZE)
    ) token (
        .clock(clock),
        .in   ({row_is_due, row_is_due & drain_ends & ends_gemm}),
        .out  ({out_valid, out_is_final})
    );
endmodule
