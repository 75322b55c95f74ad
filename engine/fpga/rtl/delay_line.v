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
        end else if (STAGES == 1) begin : one_stage
            reg [WIDTH-1:0] stage;
            always @(posedge clock) stage <= in;
            assign out = stage;
        end else begin : several_stages
            reg [WIDTH*STAGES-1:0] stages;
            always @(posedge clock) stages <= {stages[WIDTH*(STAGES-1)-1:0], in};
            assign out = stages[WIDTH*STAGES-1-:WIDTH];
        end
    endgenerate
endmodule
