// Feeds loaded chunks to the array, one K step a cycle, and tells the output stage when a tile's sums drain.
//
// A chunk occupies the array for its slot: its length, and at least 2 N cycles, the time in which a tile drains. Slots
// follow each other without a gap as long as chunks are loaded in time; else the array sees bubbles. Between two `go`
// lie 2 N >= 4 cycles, in which the walker and the lengths of the next chunk settle, each behind a register.
module tile_controller #(
    parameter COUNT = 16,
    parameter INDEX = 10
) (
    input  wire             clock,
    input  wire             reset,
    input  wire             start,
    // the GEMM, constant while it runs
    input  wire [COUNT-1:0] row_tiles,
    input  wire [COUNT-1:0] column_blocks,
    input  wire [COUNT-1:0] chunks,
    input  wire [COUNT-1:0] chunk_length,
    input  wire [COUNT-1:0] last_chunk_length,
    input  wire [COUNT-1:0] last_chunk_slot,
    input  wire             weights_stay,
    // banks
    input  wire             chunk_loaded,
    output reg              chunk_consumed,
    // operand buffers
    output wire [INDEX:0]   activation_address,
    output wire [INDEX:0]   weight_address,
    // beside the addresses: a K step is read; it is the first or last of its tile
    output reg              feeding,
    output wire             first,
    output wire             last,
    // with `last`: the tile is the last of its column block, of the GEMM
    output reg              tile_ends_block,
    output reg              tile_ends_gemm
);
    // ---- loaded chunks ------------------------------------------------------------------------------------------
    wire       go;
    reg  [1:0] loaded_chunks;
    reg        chunk_is_ready;
    wire [1:0] loaded_next = loaded_chunks + {1'b0, chunk_loaded} - {1'b0, go};

    always @(posedge clock) begin
        if (reset | start) begin
            loaded_chunks  <= 2'd0;
            chunk_is_ready <= 1'b0;
        end else begin
            loaded_chunks  <= loaded_next;
            chunk_is_ready <= |loaded_next;
        end
    end

    // ---- which chunk is next ------------------------------------------------------------------------------------
    wire is_first_chunk, is_last_chunk, is_last_tile, is_last_block, needs_weights;
    reg  went;

    always @(posedge clock) went <= !reset & go;

    tile_walker #(.COUNT(COUNT)) walker (
        .clock         (clock),
        .start         (start),
        .step          (went),
        .row_tiles     (row_tiles),
        .column_blocks (column_blocks),
        .chunks        (chunks),
        .weights_stay  (weights_stay),
        .is_first_chunk(is_first_chunk),
        .is_last_chunk (is_last_chunk),
        .is_last_tile  (is_last_tile),
        .is_last_block (is_last_block),
        .needs_weights (needs_weights)
    );

    // ---- slots --------------------------------------------------------------------------------------------------
    reg              busy;
    reg  [COUNT-1:0] length, slot_length;
    wire             slot_ends, feed_ends;

    always @(posedge clock) begin
        length      <= is_last_chunk ? last_chunk_length : chunk_length;
        slot_length <= is_last_chunk ? last_chunk_slot : chunk_length;
    end

    assign go = chunk_is_ready & (!busy | slot_ends);

    down_counter #(.WIDTH(COUNT)) slot (
        .clock(clock),
        .load (go),
        .value(slot_length),
        .step (busy),
        .last (slot_ends)
    );

    down_counter #(.WIDTH(COUNT)) feed (
        .clock(clock),
        .load (go),
        .value(length),
        .step (feeding),
        .last (feed_ends)
    );

    reg [INDEX-1:0] index;
    reg             activation_bank, weight_bank, begins_tile, ends_tile;

    always @(posedge clock) begin
        if (reset | start) begin
            busy    <= 1'b0;
            feeding <= 1'b0;
        end else begin
            busy    <= go | (busy & !slot_ends);
            feeding <= go | (feeding & !feed_ends);
        end
        chunk_consumed <= feeding & feed_ends;

        if (start) begin
            activation_bank <= 1'b1;
            weight_bank     <= 1'b1;
        end else if (go) begin
            activation_bank <= !activation_bank;
            weight_bank     <= weight_bank ^ needs_weights;
        end

        index       <= go ? {INDEX{1'b0}} : index + 1'b1;
        begins_tile <= go & is_first_chunk;
        if (go) begin
            ends_tile       <= is_last_chunk;
            tile_ends_block <= is_last_tile;
            tile_ends_gemm  <= is_last_tile & is_last_block;
        end
    end

    assign activation_address = {activation_bank, index};
    assign weight_address     = {weight_bank, index};
    assign first              = begins_tile;
    assign last               = feeding & feed_ends & ends_tile;
endmodule
