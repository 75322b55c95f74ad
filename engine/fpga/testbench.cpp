// Drives the core in-process: writes the channel parameters, starts one GEMM, answers its memory port and takes its
// results, cycle by cycle. Compiled together with Verilator's output of rtl/gemm_core.v, called by simulation.py.
#include <cstdint>
#include <cstring>
#include <memory>

#include "Vgemm_core.h"
#include "verilated.h"
#ifdef TRACE
#include "verilated_vcd_c.h"
#endif

struct Job {  // mirrored by simulation.py
    // registers of the core
    uint32_t row_tiles, column_blocks, chunks, chunk_length, last_chunk_length, last_chunk_slot;
    uint32_t weights_stay, zero_point, relu;
    // memory: cycles to the burst's first slot, cycles of a beat as fractions
    uint32_t latency;
    uint32_t beat_cycles, beat_cycles_of;
    uint32_t beat_with_weights_cycles, beat_with_weights_cycles_of;
    // bytes of a word of N operands; lanes
    uint32_t word_bytes, lanes;
    // operands and results as words, parameters as (column block, lane)
    const uint8_t* activations;
    const uint8_t* weights;
    const uint64_t* parameters;
    uint8_t* results;
    uint64_t result_words;
    uint64_t most_cycles;
};

enum Outcome : int { FINISHED = 0, TOO_LONG = 1, TOO_MANY_RESULTS = 2 };

namespace {

// One burst at a time: beat i (from 1) comes latency + ceil(i * cycles of a beat) cycles after the request.
struct Memory {
    const Job& job;
    bool busy = false, with_weights = false;
    uint64_t accepted = 0, next_beat = 0, due = 0;
    uint64_t activations = 0, weights = 0, length = 0;

    uint64_t due_of(uint64_t beat) const {
        const uint64_t cycles = with_weights ? job.beat_with_weights_cycles : job.beat_cycles;
        const uint64_t of = with_weights ? job.beat_with_weights_cycles_of : job.beat_cycles_of;
        return accepted + job.latency + (beat * cycles + of - 1) / of;
    }

    void serve(Vgemm_core& core, uint64_t cycle) {
        core.request_ready = !busy;
        core.beat_valid = busy && cycle == due;
        if (core.beat_valid) {
            std::memcpy(&core.beat_activations, job.activations + (activations + next_beat - 1) * job.word_bytes, job.word_bytes);
            if (with_weights)
                std::memcpy(&core.beat_weights, job.weights + (weights + next_beat - 1) * job.word_bytes, job.word_bytes);
            busy = next_beat < length;
            if (busy) due = due_of(++next_beat);
        } else if (!busy && core.request_valid) {
            busy = true;
            with_weights = core.request_needs_weights;
            accepted = cycle;
            activations = core.request_activations;
            weights = core.request_weights;
            length = core.request_length;
            due = due_of(next_beat = 1);
        }
    }
};

class Bench {
  public:
    Bench() : context_(new VerilatedContext), core_(new Vgemm_core(context_.get())) {
        core_->clock = 0;
        core_->reset = 1;
        tick();
        core_->reset = 0;
    }

    void trace(const char* path) {
#ifdef TRACE
        context_->traceEverOn(true);
        vcd_.reset(new VerilatedVcdC);
        core_->trace(vcd_.get(), 99);
        vcd_->open(path);
#else
        (void)path;
#endif
    }

    int run(const Job& job, uint64_t* cycles) {
        Vgemm_core& core = *core_;
        core.row_tiles = job.row_tiles;
        core.column_blocks = job.column_blocks;
        core.chunks = job.chunks;
        core.chunk_length = job.chunk_length;
        core.last_chunk_length = job.last_chunk_length;
        core.last_chunk_slot = job.last_chunk_slot;
        core.weights_stay = job.weights_stay;
        core.zero_point = job.zero_point;
        core.relu = job.relu;
        write_parameters(job);

        Memory memory{job};
        uint64_t results = 0;
        for (uint64_t cycle = 0; cycle < job.most_cycles; ++cycle) {
            core.start = cycle == 0;
            memory.serve(core, cycle);
            if (core.out_valid) {
                if (results == job.result_words) return TOO_MANY_RESULTS;
                std::memcpy(job.results + results++ * job.word_bytes, &core.out_word, job.word_bytes);
                if (core.out_is_final) {
                    *cycles = cycle + 1;
                    tick();
                    close();
                    return results == job.result_words ? FINISHED : TOO_MANY_RESULTS;
                }
            }
            tick();
        }
        close();
        return TOO_LONG;
    }

  private:
    void write_parameters(const Job& job) {
        for (uint32_t block = 0; block < job.column_blocks; ++block)
            for (uint32_t lane = 0; lane < job.lanes; ++lane) {
                core_->parameter_write = 1u << lane;
                core_->parameter_block = block;
                core_->parameter_data = job.parameters[block * job.lanes + lane];
                tick();
            }
        core_->parameter_write = 0;
    }

    void tick() {
        core_->clock = 1;
        core_->eval();
        dump();
        core_->clock = 0;
        core_->eval();
        dump();
    }

    void dump() {
#ifdef TRACE
        if (vcd_) vcd_->dump(time_++);
#endif
    }

    void close() {
#ifdef TRACE
        if (vcd_) vcd_->close();
        vcd_.reset();
#endif
    }

    std::unique_ptr<VerilatedContext> context_;
    std::unique_ptr<Vgemm_core> core_;
#ifdef TRACE
    std::unique_ptr<VerilatedVcdC> vcd_;
    uint64_t time_ = 0;
#endif
};

}  // namespace

extern "C" {
void* bench_new() { return new Bench; }
void bench_delete(void* bench) { delete static_cast<Bench*>(bench); }
void bench_trace(void* bench, const char* path) { static_cast<Bench*>(bench)->trace(path); }
int bench_run(void* bench, const Job* job, uint64_t* cycles) { return static_cast<Bench*>(bench)->run(*job, cycles); }
}
