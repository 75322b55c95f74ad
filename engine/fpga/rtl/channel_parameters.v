// Bias, multiplier and shift of one lane's output channels, one word for each column block. The host writes them
// before the GEMM starts. They come two cycles after `block`: block memory is slow to answer and has a register of its own
// behind it.
module channel_parameters #(
    parameter ACCUMULATOR = 32,
    parameter MULTIPLIER  = 16,
    parameter SHIFT       = 6,
    parameter BLOCK       = 8    // bits of the number of a column block
) (
    input  wire                                    clock,
    input  wire                                    write,
    input  wire [BLOCK-1:0]                        write_block,
    input  wire [ACCUMULATOR+MULTIPLIER+SHIFT-1:0] write_data,
    input  wire [BLOCK-1:0]                        block,
    output wire signed [ACCUMULATOR-1:0]           bias,
    output wire [MULTIPLIER-1:0]                   multiplier,
    output wire [SHIFT-1:0]                        shift
);
    localparam WORD = ACCUMULATOR + MULTIPLIER + SHIFT;

    (* no_rw_check *) reg [WORD-1:0] words[0:(1<<BLOCK)-1];
    reg [WORD-1:0] word, word_out;

    always @(posedge clock) begin
        if (write) words[write_block] <= write_data;
        word     <= words[block];
        word_out <= word;
    end

    assign {shift, multiplier, bias} = word_out;
endmodule
