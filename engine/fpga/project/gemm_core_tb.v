// Runs one GEMM of data/ on the core, with a memory of set latency and bandwidth behind its port, and compares every
// result and the number of cycles with what is expected. Verilog-2005; runs in any simulator: see README.md.
`timescale 1ns / 1ps
`include "job.vh"

module gemm_core_tb;
    localparam N     = `JOB_N;
    localparam WIDTH = `JOB_WIDTH;
    localparam WORD  = N * WIDTH;

    reg [WORD-1:0] activations[0:`JOB_ACTIVATION_WORDS-1];
    reg [WORD-1:0] weights    [0:`JOB_WEIGHT_WORDS-1];
    reg [WORD-1:0] expected   [0:`JOB_RESULT_WORDS-1];
    reg [63:0]     parameters [0:`JOB_COLUMN_BLOCKS*N-1];

    reg            clock = 0, reset = 1, start = 0;
    reg  [N-1:0]   parameter_write = 0;
    reg  [31:0]    parameter_block = 0;
    reg  [63:0]    parameter_data = 0;
    reg            request_ready = 0, beat_valid = 0;
    reg  [WORD-1:0] beat_activations = 0, beat_weights = 0;
    wire           request_valid, request_needs_weights, out_valid, out_is_final;
    wire [31:0]    request_activations, request_weights;
    wire [15:0]    request_length;
    wire [WORD-1:0] out_word;

    gemm_core #(
        .N    (N),
        .WIDTH(WIDTH),
        .INDEX(`JOB_INDEX),
        .BLOCK(`JOB_BLOCK)
    ) core (
        .clock                (clock),
        .reset                (reset),
        .start                (start),
        .row_tiles            (`JOB_ROW_TILES),
        .column_blocks        (`JOB_COLUMN_BLOCKS),
        .chunks               (`JOB_CHUNKS),
        .chunk_length         (`JOB_CHUNK_LENGTH),
        .last_chunk_length    (`JOB_LAST_CHUNK_LENGTH),
        .last_chunk_slot      (`JOB_LAST_CHUNK_SLOT),
        .weights_stay         (`JOB_WEIGHTS_STAY),
        .zero_point           (`JOB_ZERO_POINT),
        .relu                 (`JOB_RELU),
        .parameter_write      (parameter_write),
        .parameter_block      (parameter_block[`JOB_BLOCK-1:0]),
        .parameter_data       (parameter_data[53:0]),
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

    always #5 clock = !clock;

    // ---- memory: one burst at a time, beat i comes latency + ceil(i * cycles of a beat) cycles after the request ----
    reg [63:0] cycle = 0, accepted = 0, due = 0, beat = 0, length = 0, activation_base = 0, weight_base = 0;
    reg        busy = 0, with_weights = 0;

    task find_due;
        due = accepted + `JOB_LATENCY + (with_weights
            ? (beat * `JOB_BEAT_WITH_WEIGHTS_CYCLES + `JOB_BEAT_WITH_WEIGHTS_CYCLES_OF - 1) / `JOB_BEAT_WITH_WEIGHTS_CYCLES_OF
            : (beat * `JOB_BEAT_CYCLES + `JOB_BEAT_CYCLES_OF - 1) / `JOB_BEAT_CYCLES_OF);
    endtask

    task serve_memory;
        begin
            request_ready = !busy;
            beat_valid    = busy && cycle == due;
            if (beat_valid) begin
                beat_activations = activations[activation_base+beat-1];
                if (with_weights) beat_weights = weights[weight_base+beat-1];
                busy = beat < length;
                if (busy) begin
                    beat = beat + 1;
                    find_due;
                end
            end else if (!busy && request_valid) begin
                busy            = 1;
                with_weights    = request_needs_weights;
                accepted        = cycle;
                activation_base = request_activations;
                weight_base     = request_weights;
                length          = request_length;
                beat            = 1;
                find_due;
            end
        end
    endtask

    // ---- the run ------------------------------------------------------------------------------------------------
    integer block, lane, results, wrong;
    reg     finished;

    initial begin
        $readmemh({`JOB_DATA, "/activations.hex"}, activations);
        $readmemh({`JOB_DATA, "/weights.hex"}, weights);
        $readmemh({`JOB_DATA, "/parameters.hex"}, parameters);
        $readmemh({`JOB_DATA, "/expected.hex"}, expected);
`ifdef JOB_WAVEFORM
        $dumpfile("gemm_core.vcd");
        $dumpvars(0, gemm_core_tb);
`endif
        @(negedge clock) @(negedge clock) reset = 0;
        for (block = 0; block < `JOB_COLUMN_BLOCKS; block = block + 1)
            for (lane = 0; lane < N; lane = lane + 1) begin
                parameter_write = 1 << lane;
                parameter_block = block;
                parameter_data  = parameters[block*N+lane];
                @(negedge clock);
            end
        parameter_write = 0;

        results  = 0;
        wrong    = 0;
        finished = 0;
        while (!finished && cycle < 2 * `JOB_CYCLES + 1000) begin
            start = cycle == 0;
            serve_memory;
            if (out_valid) begin
                if (out_word !== expected[results]) begin
                    wrong = wrong + 1;
                    if (wrong <= 10) $display("word %0d is %h, not %h", results, out_word, expected[results]);
                end
                results  = results + 1;
                finished = out_is_final;
            end
            @(negedge clock);
            cycle = cycle + 1;
        end

        $display("%0d of %0d words, %0d wrong; %0d cycles, %0d expected", results, `JOB_RESULT_WORDS, wrong, cycle, `JOB_CYCLES);
        if (finished && wrong == 0 && results == `JOB_RESULT_WORDS && cycle == `JOB_CYCLES) $display("PASS");
        else $display("FAIL");
        $finish;
    end
endmodule
