// One lane: a sum becomes an output element,
//   clamp(((sum + bias) * multiplier + 2^(shift-1)) >> shift, plus zero point)
// with the shift written as shift - 1, rounding half up, the clamp to WIDTH bits and, with relu, not below the zero
// point. Fifteen cycles; bias, multiplier and shift are taken in the second. A lane gets at most one sum every second
// cycle, so that one 18 x 18 multiplier does the lower and then the upper half of the 32 x 16 bit product.
module requantizer #(
    parameter WIDTH       = 8,
    parameter ACCUMULATOR = 32,  // must be 32: the product is made of two halves of 16 bits
    parameter MULTIPLIER  = 16,
    parameter SHIFT       = 6
) (
    input  wire                          clock,
    input  wire                          valid,        // not in two cycles that follow each other
    input  wire signed [ACCUMULATOR-1:0] sum,
    input  wire signed [ACCUMULATOR-1:0] bias,
    input  wire        [MULTIPLIER-1:0]  multiplier,
    input  wire        [SHIFT-1:0]       shift,        // less 1
    input  wire signed [WIDTH-1:0]       zero_point,
    input  wire                          relu,
    output reg  signed [WIDTH-1:0]       result
);
    localparam HALF    = ACCUMULATOR / 2;
    localparam PRODUCT = ACCUMULATOR + MULTIPLIER;
    localparam NARROW  = WIDTH + 3;

    // 0: taken over
    reg signed [ACCUMULATOR-1:0] taken;
    reg                          valid_0;
    // 1: bias; held for two cycles
    reg signed [ACCUMULATOR-1:0] biased;
    reg        [MULTIPLIER-1:0]  factor;
    reg        [SHIFT-1:0]       shift_1;
    reg                          valid_1;
    // 2: lower half, then upper half
    reg signed [HALF:0]          half, half_at_multiplier;
    reg signed [MULTIPLIER:0]    factor_2, factor_at_multiplier;
    reg        [SHIFT-1:0]       shift_2;
    reg                          valid_2, valid_at_multiplier;
    // 3: times the multiplier
    reg signed [HALF+MULTIPLIER+1:0] multiplied, product;
    reg                          valid_multiplied, valid_3;
    reg        [SHIFT-1:0]       shift_3;
    // 4: the lower half's product waits
    reg        [HALF+MULTIPLIER-1:0] lower;
    reg        [SHIFT-1:0]       shift_4;
    // 5: both halves together
    reg signed [PRODUCT-1:0]     whole;
    // 6, 7, 8: shifted right by multiples of 16, of 4, of 1
    reg signed [PRODUCT-1:0]     coarse, middle, fine;
    reg        [SHIFT-1:0]       shift_5;
    reg        [3:0]             shift_6;
    reg        [1:0]             shift_7;
    // 9: does it fit the bits that can still matter
    reg signed [NARROW-1:0]      narrow;
    reg                          fits, is_below_zero;
    // 10: clipped to those
    reg signed [NARROW-1:0]      clipped;
    // 11: rounded, zero point added; was it negative before
    reg signed [NARROW:0]        rounded;
    reg                          rounds_below_zero;

    wire        [MULTIPLIER+HALF-1:0] high_sum = product[MULTIPLIER+HALF-1:0] + {{HALF{1'b0}}, lower[HALF+MULTIPLIER-1:HALF]};
    wire                              unused = &product[MULTIPLIER+HALF+1:MULTIPLIER+HALF];
    wire signed [NARROW:0]            sum_with_zero_point = $signed({clipped[NARROW-1], clipped})
                                          + $signed({{(NARROW - WIDTH) {zero_point[WIDTH-1]}}, zero_point, 1'b1});
    // the bits above the result's, from its sign on: all equal if it fits
    wire        [NARROW-WIDTH:0]      excess = rounded[NARROW-1:WIDTH-1];
    wire                              too_high = !rounded[NARROW] & |excess;
    wire                              too_low = rounded[NARROW] & !(&excess);

    always @(posedge clock) begin
        valid_0 <= valid;
        taken   <= sum;

        valid_1 <= valid_0;
        if (valid_0) begin
            biased  <= taken + bias;
            factor  <= multiplier;
            shift_1 <= shift;
        end

        valid_2  <= valid_1;
        half     <= valid_1 ? $signed({1'b0, biased[HALF-1:0]}) : $signed({biased[ACCUMULATOR-1], biased[ACCUMULATOR-1:HALF]});
        factor_2 <= $signed({1'b0, factor});
        shift_2  <= shift_1;

        // registers on both sides of the multiplier, which lies far from the rest
        half_at_multiplier   <= half;
        factor_at_multiplier <= factor_2;
        valid_at_multiplier  <= valid_2;
        if (valid_at_multiplier) shift_3 <= shift_2;

        multiplied       <= half_at_multiplier * factor_at_multiplier;
        valid_multiplied <= valid_at_multiplier;
        product          <= multiplied;
        valid_3          <= valid_multiplied;

        if (valid_3) begin
            lower   <= product[HALF+MULTIPLIER-1:0];
            shift_4 <= shift_3;
        end

        whole   <= {high_sum, lower[HALF-1:0]};
        shift_5 <= shift_4;

        coarse  <= whole >>> {shift_5[5:4], 4'b0000};
        shift_6 <= shift_5[3:0];
        middle  <= coarse >>> {shift_6[3:2], 2'b00};
        shift_7 <= shift_6[1:0];
        fine    <= middle >>> shift_7;

        narrow        <= fine[NARROW-1:0];
        is_below_zero <= fine[PRODUCT-1];
        fits          <= fine[PRODUCT-1:NARROW-1] == {(PRODUCT - NARROW + 1) {fine[PRODUCT-1]}};

        clipped <= fits ? narrow : {is_below_zero, {(NARROW - 1) {!is_below_zero}}};

        rounded           <= sum_with_zero_point >>> 1;
        rounds_below_zero <= clipped[NARROW-1] & !(&clipped);  // -1 rounds to 0: half up

        // no comparison with the bounds: the excess bits and a sign select
        if (too_high) result <= {1'b0, {(WIDTH - 1) {1'b1}}};
        else if (relu & rounds_below_zero) result <= zero_point;
        else if (too_low) result <= {1'b1, {(WIDTH - 1) {1'b0}}};
        else result <= rounded[WIDTH-1:0];
    end
endmodule
