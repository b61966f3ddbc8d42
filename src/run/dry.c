/* --dry-run: what a job would take. All inputs are read as the job would read them, but no weights. */
#include "internal.h"

#include <math.h>
#include <string.h>

typedef struct forecast {
    const espl_config *o;
    const espl_model_config *config;
    espl_model_options options;
    espl_calibration_options calibration;
    espl_range *slices; /* [ranks] */
    int64_t ranks, bytes_per_weight, validation_tokens;
    double rate; /* FLOP/s of one rank */
} forecast;

static int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }

static espl_status read_dtype(forecast *f) {
    espl_weights *w;
    f->bytes_per_weight = 2;
    ESPL_TRY(espl_weights_open(f->o->model_path, &w));
    for (int64_t i = 0; i < espl_weights_count(w); i++) {
        const espl_tensor_info *t = espl_weights_at(w, i);
        if (t->n_dims == 2) f->bytes_per_weight = max64(f->bytes_per_weight, (int64_t)espl_dtype_size(t->dtype));
    }
    espl_weights_close(&w);
    return ESPL_OK;
}

static espl_status prepare(forecast *f, const job *j) {
    f->config = &j->config;
    f->options = espl_data_model_options(j, (int)f->ranks);
    f->calibration = (espl_calibration_options){.window = f->o->calibration_window,
                                                .forward = f->o->calibration_forward,
                                                .backward = f->o->calibration_backward};
    f->validation_tokens = j->data.validation.n / f->o->validation_window * f->o->validation_window;
    ESPL_TRY(read_dtype(f));
    ESPL_TRY(espl_mem_alloc(&f->slices, f->ranks, sizeof *f->slices, "slices"));
    return espl_model_partition(f->config, f->options.context, (int)f->ranks, f->slices);
}

/* ------------------------------------------------------------------ speed */

enum { ROWS = 512, WIDEST = 2048 };

static double time_linear(const espl_linear *l, const float *x, float *y, espl_workspace *ws) {
    enum { ROUNDS = 8 };
    double best = INFINITY;
    for (int i = 0; i < ROUNDS; i++) {
        double start = espl_clock_now();
        espl_tensor_linear(l, 1, x, ROWS, &y, false, ws);
        best = fmin(best, espl_clock_now() - start);
    }
    return best;
}

/* Runs a linear of the model's shape, at most WIDEST wide, on this machine's threads. */
static espl_status measure_rate(forecast *f) {
    int64_t out = f->config->ffn < WIDEST ? f->config->ffn : WIDEST, in = f->config->hidden;
    if (in > WIDEST) in = WIDEST;
    float *all = NULL;
    espl_workspace *ws = NULL;
    espl_status st = espl_mem_alloc(&all, out * in + ROWS * (in + out), sizeof *all, "speed test");
    if (st == ESPL_OK) st = espl_workspace_create(&ws);
    if (st == ESPL_OK) {
        espl_linear l = {.weight = all, .dtype = ESPL_DTYPE_F32, .out = out, .in = in};
        float *x = all + out * in, *y = x + ROWS * in;
        f->rate = 2.0 * ROWS * (double)(out * in) / time_linear(&l, x, y, ws);
    }
    espl_workspace_destroy(&ws);
    espl_mem_free(&all);
    return st;
}

static double forward_flops(const forecast *f, int64_t context, bool head) {
    double sum = head ? espl_model_head_flops(f->config) : 0;
    for (int64_t i = 0; i < f->config->layers; i++) sum += espl_model_layer_flops(f->config, i, context);
    return sum;
}

/* Of an iteration without knowledge probes: statistics once forward; a gradient sample forward, again (recomputed), and
 * twice that backward; validation forward with the head. */
static double iteration_flops(const forecast *f) {
    const espl_config *o = f->o;
    double window = (double)o->calibration_window, layers = forward_flops(f, o->calibration_window, false);
    int64_t only_forward = max64(o->calibration_forward - o->calibration_backward, 0);
    double flops = (double)only_forward * window * layers;
    flops += (double)o->calibration_backward * window * (4 * layers + 4 * espl_model_head_flops(f->config));
    return flops + (double)f->validation_tokens * forward_flops(f, o->validation_window, true);
}

/* ----------------------------------------------------------------- print */

static const char *megabytes(int64_t bytes, char *buf) {
    snprintf(buf, 32, "%.1f", (double)bytes / 1048576);
    return buf;
}

static void print_rank(const forecast *f, int64_t r) {
    espl_model_memory m =
        espl_model_memory_of(f->config, &f->options, f->slices[r], espl_tensor_threads(), f->bytes_per_weight);
    int64_t masks = espl_masks_bytes(f->config, f->slices[r]);
    int64_t extra = espl_model_calibration_bytes(f->config, &f->calibration, f->slices[r], (int)r, (int)f->ranks);
    int64_t other = m.workspace + m.tables + m.libraries;
    char layers[48], b[7][32];
    snprintf(layers, sizeof layers, "%lld-%lld%s", (long long)f->slices[r].first, (long long)f->slices[r].last - 1,
             r == f->ranks - 1 ? "+head" : "");
    printf("%5lld %13s %10s %8s %12s %12s %9s %9s %9s\n", (long long)r, layers, megabytes(m.weights, b[0]),
           megabytes(masks, b[1]), megabytes(m.activations, b[2]), megabytes(extra, b[3]), megabytes(m.kv_cache, b[4]),
           megabytes(other, b[5]), megabytes(m.weights + masks + m.activations + extra + m.kv_cache + other, b[6]));
}

static int64_t checkpoint_bytes(const forecast *f) {
    espl_checkpoint_shape s = espl_run_checkpoint_shape(f->config, (espl_range){0});
    return espl_checkpoint_bytes(&s);
}

static void print_time(const forecast *f) {
    double flops = iteration_flops(f);
    printf(
        "\none iteration without knowledge probes: %.3g FLOP; at %.1f GFLOP/s a rank (measured here): about %.1f s\n",
        flops, f->rate * 1e-9, flops / f->rate / (double)f->ranks);
}

static void print_forecast(const forecast *f) {
    char b[32];
    int64_t prunable = f->config->layers * espl_model_layer_linear_weights(f->config);
    printf("%s: %s, %lld layers, %lld prunable weights of %lld parameters\n", f->o->model_path,
           espl_family_name(f->config->family), (long long)f->config->layers, (long long)prunable,
           (long long)espl_model_parameters(f->config));
    printf("target %.4g: %.0f weights pruned\n\n", f->o->prune_target, f->o->prune_target * (double)prunable);
    printf("MiB per rank, %d thread(s) each:\n", espl_tensor_threads());
    printf("%5s %13s %10s %8s %12s %12s %9s %9s %9s\n", "rank", "layers", "weights", "masks", "activations",
           "calibration", "KV cache", "other", "total");
    for (int64_t r = 0; r < f->ranks; r++) print_rank(f, r);
    printf("\na checkpoint: %s MiB, %lld of them kept\n", megabytes(checkpoint_bytes(f), b), (long long)f->o->run_keep);
    print_time(f);
}

static espl_status forecast_here(const job *j, int64_t ranks) {
    forecast f = {.o = j->o, .ranks = ranks};
    espl_status st = prepare(&f, j);
    if (st == ESPL_OK) st = measure_rate(&f);
    if (st == ESPL_OK) print_forecast(&f);
    espl_mem_free(&f.slices);
    return st;
}

espl_status espl_run_dry(espl_comm *c, const espl_config *o, int64_t ranks) {
    job j = {.c = c, .o = o, .root = espl_comm_rank(c) == 0};
    espl_status st = espl_job_inputs(&j);
    if (ranks <= 0) ranks = espl_comm_size(c);
    if (st == ESPL_OK) st = espl_comm_agree(c, j.root ? forecast_here(&j, ranks) : ESPL_OK);
    espl_job_free(&j);
    return st;
}
