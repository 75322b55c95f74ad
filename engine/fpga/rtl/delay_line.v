// A word, STAGES cycles later (0: a wire).
module delay_line #(
    parameter WIDTH  = 8,
    parameter STAGES = 1
) (
    input  wire             clock,
    input  wire [WIDTH-1:0] in,
    output wire [WIDTH-1:0] out
);
    generate
        if (STAGES == 0) begin : no_delay
            assign out = in;
            wire unused = clock;
        end else begin : delayed
            reg     [WIDTH-1:0] stages[0:STAGES-1];
            integer             i;
            always @(posedge clock) begin
                stages[0] <= in;
                for (i = 1; i < STAGES; i = i + 1) stages[i] <= stages[i-1];
            end
            assign out = stages[STAGES-1];
        end
    endgenerate
endmodule
