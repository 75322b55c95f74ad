// Walks the chunks of a GEMM in the order in which they are loaded and fed:
//   for each block of N output columns, for each tile of N output rows, for each chunk of the K dimension.
// All outputs describe the present chunk and come from registers; `step` moves to the next one.
module tile_walker #(
    parameter COUNT = 16  // bits of a number of tiles or of a length
) (
    input  wire             clock,
    input  wire             start,              // to the first chunk
    input  wire             step,
    input  wire [COUNT-1:0] row_tiles,          // ceil(M / N)
    input  wire [COUNT-1:0] column_blocks,      // ceil(O / N)
    input  wire [COUNT-1:0] chunks,             // of K, in a tile
    input  wire             weights_stay,       // K is one chunk: the weights of a block are loaded once
    output reg              is_first_chunk,     // of its tile
    output wire             is_last_chunk,      // of its tile
    output wire             is_last_tile,       // of its column block
    output wire             is_last_block,
    output reg              needs_weights       // else they are still there from the tile before
);
    wire tile_ends  = step & is_last_chunk;
    wire block_ends = tile_ends & is_last_tile;

    down_counter #(.WIDTH(COUNT)) chunk (
        .clock(clock),
        .load (start | tile_ends),
        .value(chunks),
        .step (step),
        .last (is_last_chunk)
    );

    down_counter #(.WIDTH(COUNT)) tile (
        .clock(clock),
        .load (start | block_ends),
        .value(row_tiles),
        .step (tile_ends),
        .last (is_last_tile)
    );

    down_counter #(.WIDTH(COUNT)) block (
        .clock(clock),
        .load (start),
        .value(column_blocks),
        .step (block_ends),
        .last (is_last_block)
    );

    always @(posedge clock) begin
        if (start) begin
            is_first_chunk <= 1'b1;
            needs_weights  <= 1'b1;
        end else if (step) begin
            is_first_chunk <= is_last_chunk;
            needs_weights  <= !weights_stay | (is_last_chunk & is_last_tile);
        end
    end
endmodule
