// Two banks of DEPTH words: one is filled while the other is read. Simple dual-port memory with a registered read.
module operand_buffer #(
    parameter WIDTH   = 64,   // bits of a word: one element for each lane
    parameter ADDRESS = 11    // bits of {bank, index}
) (
    input  wire               clock,
    input  wire               write,
    input  wire [ADDRESS-1:0] write_address,
    input  wire [WIDTH-1:0]   write_data,
    input  wire [ADDRESS-1:0] read_address,
    output reg  [WIDTH-1:0]   read_data
);
    reg [WIDTH-1:0] words[0:(1<<ADDRESS)-1];

    always @(posedge clock) begin
        if (write) words[write_address] <= write_data;
        read_data <= words[read_address];
    end
endmodule
