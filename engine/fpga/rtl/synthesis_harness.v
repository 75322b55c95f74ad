// The core behind four pins, for place and route: all inputs come from a shift register, all outputs are captured in
// one. Both are registers next to the core, so that the clock measured is the core's and not that of pins, of which no
// package has enough. Not part of the core: its flip-flops are counted apart.
module synthesis_harness #(
    parameter N      = 8,
    parameter WIDTH  = 8,
    parameter INDEX  = 10,
    parameter BLOCK  = 9,
    parameter COUNT  = 16,
    parameter MEMORY = 32
) (
    input  wire clock,
    input  wire serial_in,
    input  wire capture,
    output wire serial_out
);
    localparam INPUTS  = 6 * COUNT + WIDTH + 2 + N + BLOCK + 54 + 2 + 2 * N * WIDTH + 2;
    localparam OUTPUTS = 1 + 2 * MEMORY + COUNT + 1 + 2 + N * WIDTH;

    reg  [INPUTS-1:0]  inputs;
    reg  [OUTPUTS-1:0] captured;
    wire [OUTPUTS-1:0] outputs;

    always @(posedge clock) begin
        inputs   <= {inputs[INPUTS-2:0], serial_in};
        captured <= capture ? outputs : {captured[OUTPUTS-2:0], 1'b0};
    end

    assign serial_out = captured[OUTPUTS-1];

    wire reset, start, weights_stay, relu, request_ready, beat_valid;
    wire [COUNT-1:0] row_tiles, column_blocks, chunks, chunk_length, last_chunk_length, last_chunk_slot;
    wire [WIDTH-1:0] zero_point;
    wire [N-1:0] parameter_write;
    wire [BLOCK-1:0] parameter_block;
    wire [53:0] parameter_data;
    wire [N*WIDTH-1:0] beat_activations, beat_weights;

    assign {reset, start, row_tiles, column_blocks, chunks, chunk_length, last_chunk_length, last_chunk_slot,
            weights_stay, zero_point, relu, parameter_write, parameter_block, parameter_data, request_ready,
            beat_valid, beat_activations, beat_weights} = inputs;

    wire request_valid, request_needs_weights, out_valid, out_is_final;
    wire [MEMORY-1:0] request_activations, request_weights;
    wire [COUNT-1:0] request_length;
    wire [N*WIDTH-1:0] out_word;

    assign outputs = {request_valid, request_activations, request_weights, request_length, request_needs_weights,
                      out_valid, out_is_final, out_word};

    gemm_core #(
        .N     (N),
        .WIDTH (WIDTH),
        .INDEX (INDEX),
        .BLOCK (BLOCK),
        .COUNT (COUNT),
        .MEMORY(MEMORY)
    ) core (
        .clock                (clock),
        .reset                (reset),
        .start                (start),
        .row_tiles            (row_tiles),
        .column_blocks        (column_blocks),
        .chunks               (chunks),
        .chunk_length         (chunk_length),
        .last_chunk_length    (last_chunk_length),
        .last_chunk_slot      (last_chunk_slot),
        .weights_stay         (weights_stay),
        .zero_point           (zero_point),
        .relu                 (relu),
        .parameter_write      (parameter_write),
        .parameter_block      (parameter_block),
        .parameter_data       (parameter_data),
        .request_valid        (request_valid),
        .request_ready        (request_ready),
        .request_activations  (request_activations),
        .request_weights      (request_weights),
        .request_length       (request_length),
        .request_needs_weights(request_needs_weights),
        .beat_valid           (beat_valid),
        .beat_activations     (beat_activations),
        .beat_weights         (beat_weights),
        .out_valid            (out_valid),
        .out_is_final         (out_is_final),
        .out_word             (out_word)
    );
endmodule
