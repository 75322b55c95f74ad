// Counts `value` steps down; `last` tells, from a register, that the present step is the final one.
// The zero is found one step ahead, so that no wide comparison stands between the count and who asks.
module down_counter #(
    parameter WIDTH = 16
) (
    input  wire             clock,
    input  wire             load,   // wins over step
    input  wire [WIDTH-1:0] value,  // at least 1
    input  wire             step,
    output reg              last
);
    reg [WIDTH-1:0] left;

    always @(posedge clock) begin
        if (load) begin
            left <= value;
            last <= value == {{(WIDTH - 1) {1'b0}}, 1'b1};
        end else if (step) begin
            left <= left - 1'b1;
            last <= left == {{(WIDTH - 2) {1'b0}}, 2'b10};
        end
    end
endmodule
