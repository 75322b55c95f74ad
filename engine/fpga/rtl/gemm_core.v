// Integer GEMM: out[M x O] = requantize(activations[M x K] * weights[K x O] + bias), all of it in tiles of N x N.
//
//   memory port -> tile_loader -> operand_buffer x 2 -> skew_buffer x 2 -> systolic_array -> output_stage -> out
//                       |                ^                                                       ^
//                       +---> tile_controller (addresses, first/last flags, end of tile) --------+
//
// The host packs the operands in words of N elements (element i in bits i*WIDTH and up):
//   activations: for each row tile, K words; word k holds column k of the tile's N rows
//   weights:     for each column block, K words; word k holds row k of the block's N columns
// filled up with zeros at the edges, writes the channel parameters, sets the GEMM and pulses `start`.
// Results come as one word for each row in the order (column block, row tile, row); the last one with out_is_final.
module gemm_core #(
    parameter N      = 8,   // rows and columns of the array; at least 2
    parameter WIDTH  = 8,   // bits of an operand or result
    parameter INDEX  = 10,  // bits of a bank index: a bank holds 2^INDEX words
    parameter BLOCK  = 9,   // bits of a column block's number: at most 2^BLOCK blocks
    parameter COUNT  = 16,  // bits of a length or a number of tiles
    parameter MEMORY = 32   // bits of a memory address, in words
) (
    input  wire               clock,
    input  wire               reset,
    input  wire               start,
    // the GEMM, constant while it runs
    input  wire [COUNT-1:0]   row_tiles,          // ceil(M / N)
    input  wire [COUNT-1:0]   column_blocks,      // ceil(O / N)
    input  wire [COUNT-1:0]   chunks,             // ceil(K / chunk_length)
    input  wire [COUNT-1:0]   chunk_length,       // at most 2^INDEX; with more than one chunk at least 2 N
    input  wire [COUNT-1:0]   last_chunk_length,
    input  wire [COUNT-1:0]   last_chunk_slot,    // max(last_chunk_length, 2 N)
    input  wire               weights_stay,       // chunks == 1
    input  wire [WIDTH-1:0]   zero_point,
    input  wire               relu,
    // channel parameters: {shift - 1, multiplier, bias}
    input  wire [N-1:0]       parameter_write,
    input  wire [BLOCK-1:0]   parameter_block,
    input  wire [53:0]        parameter_data,
    // memory port
    output wire               request_valid,
    input  wire               request_ready,
    output wire [MEMORY-1:0]  request_activations,
    output wire [MEMORY-1:0]  request_weights,
    output wire [COUNT-1:0]   request_length,
    output wire               request_needs_weights,
    input  wire               beat_valid,
    input  wire [N*WIDTH-1:0] beat_activations,
    input  wire [N*WIDTH-1:0] beat_weights,
    // results
    output wire               out_valid,
    output wire               out_is_final,
    output wire [N*WIDTH-1:0] out_word
);
    localparam ACCUMULATOR = 32;
    localparam MULTIPLIER  = 16;
    localparam SHIFT       = 6;

    // ---- load ---------------------------------------------------------------------------------------------------
    wire               chunk_loaded, chunk_consumed;
    wire               write_activations, write_weights;
    wire [INDEX:0]     activation_write_address, weight_write_address;
    wire [N*WIDTH-1:0] activation_write_word, weight_write_word;

    tile_loader #(
        .N     (N),
        .WIDTH (WIDTH),
        .COUNT (COUNT),
        .MEMORY(MEMORY),
        .INDEX (INDEX)
    ) loader (
        .clock                (clock),
        .reset                (reset),
        .start                (start),
        .row_tiles            (row_tiles),
        .column_blocks        (column_blocks),
        .chunks               (chunks),
        .chunk_length         (chunk_length),
        .last_chunk_length    (last_chunk_length),
        .weights_stay         (weights_stay),
        .request_valid        (request_valid),
        .request_ready        (request_ready),
        .request_activations  (request_activations),
        .request_weights      (request_weights),
        .request_length       (request_length),
        .request_needs_weights(request_needs_weights),
        .beat_valid           (beat_valid),
        .beat_activations     (beat_activations),
        .beat_weights         (beat_weights),
        .write_activations    (write_activations),
        .write_weights        (write_weights),
        .activation_address   (activation_write_address),
        .weight_address       (weight_write_address),
        .activation_word      (activation_write_word),
        .weight_word          (weight_write_word),
        .chunk_consumed       (chunk_consumed),
        .chunk_loaded         (chunk_loaded)
    );

    // ---- feed ---------------------------------------------------------------------------------------------------
    wire [INDEX:0]     activation_read_address, weight_read_address;
    wire [N*WIDTH-1:0] activation_read_word, weight_read_word;
    wire               feeding, first, last, tile_ends_block, tile_ends_gemm;

    tile_controller #(
        .COUNT(COUNT),
        .INDEX(INDEX)
    ) controller (
        .clock             (clock),
        .reset             (reset),
        .start             (start),
        .row_tiles         (row_tiles),
        .column_blocks     (column_blocks),
        .chunks            (chunks),
        .chunk_length      (chunk_length),
        .last_chunk_length (last_chunk_length),
        .last_chunk_slot   (last_chunk_slot),
        .weights_stay      (weights_stay),
        .chunk_loaded      (chunk_loaded),
        .chunk_consumed    (chunk_consumed),
        .activation_address(activation_read_address),
        .weight_address    (weight_read_address),
        .feeding           (feeding),
        .first             (first),
        .last              (last),
        .tile_ends_block   (tile_ends_block),
        .tile_ends_gemm    (tile_ends_gemm)
    );

    operand_buffer #(
        .WIDTH  (N * WIDTH),
        .ADDRESS(INDEX + 1)
    ) activation_buffer (
        .clock        (clock),
        .write        (write_activations),
        .write_address(activation_write_address),
        .write_data   (activation_write_word),
        .read_address (activation_read_address),
        .read_data    (activation_read_word)
    );

    operand_buffer #(
        .WIDTH  (N * WIDTH),
        .ADDRESS(INDEX + 1)
    ) weight_buffer (
        .clock        (clock),
        .write        (write_weights),
        .write_address(weight_write_address),
        .write_data   (weight_write_word),
        .read_address (weight_read_address),
        .read_data    (weight_read_word)
    );

    // ---- skew: lane i of the words and of the flags comes i cycles after lane 0 -----------------------------------
    wire [N*WIDTH-1:0] activation_wave, weight_wave;
    wire [N*3-1:0]     flag_wave;
    wire [2:0]         flags_read;

    delay_line #(
        .WIDTH (3),
        .STAGES(2)
    ) read_delay (
        .clock(clock),
        .in   ({feeding, first, last}),
        .out  (flags_read)
    );

    skew_buffer #(
        .N    (N),
        .WIDTH(WIDTH)
    ) activation_skew (
        .clock(clock),
        .in   (activation_read_word),
        .out  (activation_wave)
    );

    skew_buffer #(
        .N    (N),
        .WIDTH(WIDTH)
    ) weight_skew (
        .clock(clock),
        .in   (weight_read_word),
        .out  (weight_wave)
    );

    skew_buffer #(
        .N    (N),
        .WIDTH(3)
    ) flag_skew (
        .clock(clock),
        .in   ({N{flags_read}}),
        .out  (flag_wave)
    );

    // ---- multiply: at the edge of the array a lane that is not fed gets zeros (a bubble) ----------------------------
    reg  [N*WIDTH-1:0]       activation_edge, weight_edge;
    reg  [N-1:0]             first_edge, last_edge;
    wire [N*ACCUMULATOR-1:0] drain;
    integer                  i;

    always @(posedge clock) begin
        weight_edge <= weight_wave;
        for (i = 0; i < N; i = i + 1) begin
            activation_edge[i*WIDTH+:WIDTH] <= activation_wave[i*WIDTH+:WIDTH] & {WIDTH{flag_wave[i*3+2]}};
            first_edge[i]                   <= flag_wave[i*3+1];
            last_edge[i]                    <= flag_wave[i*3];
        end
    end

    systolic_array #(
        .N          (N),
        .WIDTH      (WIDTH),
        .ACCUMULATOR(ACCUMULATOR)
    ) array (
        .clock      (clock),
        .activations(activation_edge),
        .first      (first_edge),
        .last       (last_edge),
        .weights    (weight_edge),
        .drain      (drain)
    );

    // ---- drain --------------------------------------------------------------------------------------------------
    localparam FEED_TO_DRAIN = 7;  // from a K step's address to the cycle before its sum stands at the top: see docs

    wire drains, drains_block, drains_gemm;

    delay_line #(
        .WIDTH (3),
        .STAGES(FEED_TO_DRAIN)
    ) drain_delay (
        .clock(clock),
        .in   ({last, tile_ends_block, tile_ends_gemm}),
        .out  ({drains, drains_block, drains_gemm})
    );

    output_stage #(
        .N          (N),
        .WIDTH      (WIDTH),
        .ACCUMULATOR(ACCUMULATOR),
        .MULTIPLIER (MULTIPLIER),
        .SHIFT      (SHIFT),
        .BLOCK      (BLOCK)
    ) output_stage (
        .clock          (clock),
        .reset          (reset),
        .start          (start),
        .zero_point     (zero_point),
        .relu           (relu),
        .write          (parameter_write),
        .write_block    (parameter_block),
        .write_data     (parameter_data),
        .tile_drains    (drains),
        .tile_ends_block(drains_block),
        .tile_ends_gemm (drains_gemm),
        .drain          (drain),
        .out_valid      (out_valid),
        .out_is_final   (out_is_final),
        .out_word       (out_word)
    );
endmodule
