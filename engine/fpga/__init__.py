"""The FPGA side: one integer GEMM core, its arithmetic, its cycles, its simulation and its synthesis.

`fixed_point` is the one definition of requantization and `gemm` the integer executor: what the core computes, in numpy.
`cycles` says how long it takes, to the cycle. `simulation` runs the core itself (rtl/), built by `build`;
`verification` holds all of them against each other on random shapes. `synthesis` gets resources and clock from yosys
and nextpnr; `export` gives the core away as a project for other tools, and as a waveform.
"""
