// Two banks of DEPTH words: one is filled while the other is read. A word comes two
// cycles after its address: block memory is slow to answer and has a register of its own behind it.
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
    // reader and writer are never in the same bank
    (* no_rw_check *) reg [WIDTH-1:0] words[0:(1<<ADDRESS)-1];
    reg [WIDTH-1:0] word;

    always @(posedge clock) begin
        if (write) words[write_address] <= write_data;
        word      <= words[read_address];
        read_data <= word;
    end
endmodule
