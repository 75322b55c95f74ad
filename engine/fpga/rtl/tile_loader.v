// Loads chunks of the packed operands into the free bank of the operand buffers, one burst a chunk, ahead of the
// array by at most the two banks. A burst is a request (addresses, length, with or without weights) that the memory
// answers with `length` beats in order; a beat carries one K step: N activations and N weights.
module tile_loader #(
    parameter N      = 8,
    parameter WIDTH  = 8,
    parameter COUNT  = 16,  // bits of a length or a number of tiles
    parameter MEMORY = 32,  // bits of a memory address, counted in words of N elements
    parameter INDEX  = 10   // bits of an index into a bank
) (
    input  wire               clock,
    input  wire               reset,
    input  wire               start,
    // the GEMM, constant while it runs
    input  wire [COUNT-1:0]   row_tiles,
    input  wire [COUNT-1:0]   column_blocks,
    input  wire [COUNT-1:0]   chunks,
    input  wire [COUNT-1:0]   chunk_length,
    input  wire [COUNT-1:0]   last_chunk_length,
    input  wire               weights_stay,
    // memory port
    output wire               request_valid,
    input  wire               request_ready,
    output reg  [MEMORY-1:0]  request_activations,
    output reg  [MEMORY-1:0]  request_weights,
    output reg  [COUNT-1:0]   request_length,
    output reg                request_needs_weights,
    input  wire               beat_valid,
    input  wire [N*WIDTH-1:0] beat_activations,
    input  wire [N*WIDTH-1:0] beat_weights,
    // operand buffers
    output reg                write_activations,
    output reg                write_weights,
    output reg  [INDEX:0]     activation_address,
    output reg  [INDEX:0]     weight_address,
    output reg  [N*WIDTH-1:0] activation_word,
    output reg  [N*WIDTH-1:0] weight_word,
    // banks
    input  wire               chunk_consumed,
    output reg                chunk_loaded
);
    localparam [1:0] IDLE = 2'd0, PREPARE = 2'd1, REQUEST = 2'd2, RECEIVE = 2'd3;

    reg [1:0] state;
    wire      accepted = request_valid & request_ready;
    reg       was_accepted;
    wire      last_beat;
    wire      received = beat_valid & last_beat;

    // ---- which chunk -------------------------------------------------------------------------------------------
    wire is_first_chunk, is_last_chunk, is_last_tile, is_last_block, needs_weights;
    wire unused = is_first_chunk;

    tile_walker #(.COUNT(COUNT)) walker (
        .clock         (clock),
        .start         (start),
        .step          (was_accepted),
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

    // ---- where it lies: activations are read anew for each column block, a block's weights for each row tile --------
    reg  [MEMORY-1:0] activation_pointer, weight_pointer, block_pointer;
    wire [MEMORY-1:0] length_extended = {{(MEMORY - COUNT) {1'b0}}, request_length};
    wire [MEMORY-1:0] behind_weights  = weight_pointer + length_extended;

    always @(posedge clock) begin
        if (start) begin
            activation_pointer <= {MEMORY{1'b0}};
            weight_pointer     <= {MEMORY{1'b0}};
            block_pointer      <= {MEMORY{1'b0}};
        end else if (was_accepted) begin
            activation_pointer <= is_last_chunk & is_last_tile ? {MEMORY{1'b0}} : activation_pointer + length_extended;
            weight_pointer     <= is_last_chunk & !is_last_tile ? block_pointer : behind_weights;
            if (is_last_chunk & is_last_tile) block_pointer <= behind_weights;
        end
        if (state == PREPARE) begin
            request_activations   <= activation_pointer;
            request_weights       <= weight_pointer;
            request_length        <= is_last_chunk ? last_chunk_length : chunk_length;
            request_needs_weights <= needs_weights;
        end
    end

    // ---- how many banks are free --------------------------------------------------------------------------------
    reg  [1:0] free_banks;
    reg        bank_is_free;
    wire [1:0] free_next = free_banks + {1'b0, chunk_consumed} - {1'b0, accepted};

    always @(posedge clock) begin
        if (start) begin
            free_banks   <= 2'd2;
            bank_is_free <= 1'b1;
        end else begin
            free_banks   <= free_next;
            bank_is_free <= |free_next;
        end
    end

    // ---- request, receive ---------------------------------------------------------------------------------------
    reg is_final;  // the chunk being received is the last of the GEMM

    assign request_valid = state == REQUEST & bank_is_free;

    always @(posedge clock) begin
        if (reset) state <= IDLE;
        else
            case (state)
                IDLE:    if (start) state <= PREPARE;
                PREPARE: state <= REQUEST;
                REQUEST: if (accepted) state <= RECEIVE;
                RECEIVE: if (received) state <= is_final ? IDLE : PREPARE;
            endcase
        was_accepted <= !reset & accepted;
        if (accepted) is_final <= is_last_chunk & is_last_tile & is_last_block;
        chunk_loaded <= received;
    end

    down_counter #(.WIDTH(COUNT)) beats (
        .clock(clock),
        .load (accepted),
        .value(request_length),
        .step (beat_valid),
        .last (last_beat)
    );

    // ---- into the bank ------------------------------------------------------------------------------------------
    reg [INDEX-1:0] index;
    reg             activation_bank, weight_bank, with_weights;

    always @(posedge clock) begin
        if (start) begin
            activation_bank <= 1'b1;
            weight_bank     <= 1'b1;
        end else if (accepted) begin
            activation_bank <= !activation_bank;
            weight_bank     <= weight_bank ^ request_needs_weights;
            with_weights    <= request_needs_weights;
        end
        if (accepted) index <= {INDEX{1'b0}};
        else if (beat_valid) index <= index + 1'b1;

        write_activations  <= beat_valid;
        write_weights      <= beat_valid & with_weights;
        activation_address <= {activation_bank, index};
        weight_address     <= {weight_bank, index};
        activation_word    <= beat_activations;
        weight_word        <= beat_weights;
    end
endmodule
