/* SPDX-License-Identifier: Apache-2.0 */
/* espalier_recipe.json. What it says of versions is what the result depends on: the program and the library that
 * multiplies; MPI and HDF5 change no bit of it. */
#include "recipe.h"

#include <inttypes.h>

#include "allocation.h"
#include "espalier/model/locate.h"
#include "espl_revision.h"
#include "events.h"

static void recipe_put_result(espl_json_writer *w, const espl_job *j) {
    espl_json_open_object(w, "result", ESPL_JSON_SPACED);
    espl_json_put_text(w, "end", j->end ? j->end : "milestone");
    espl_json_put_i64(w, "iterations", j->iteration);
    espl_json_put_i64(w, "rollbacks", j->rollbacks);
    espl_json_put_f64(w, "sparsity", espl_job_sparsity(j, j->pruned));
    espl_json_put_f64(w, "sparsity_with_embeddings", espl_job_sparsity_of_model(j, j->pruned));
    espl_json_put_i64(w, "pruned_weights", j->pruned);
    espl_json_put_i64(w, "prunable_weights", j->weights);
    espl_json_close(w);
}

static espl_status recipe_put_decisions(espl_json_writer *w, const espl_job *j) {
    espl_status st = ESPL_OK;
    espl_json_open_array(w, "decisions", ESPL_JSON_LINES);
    for (int64_t i = 0; st == ESPL_OK && i < j->n_history; i++) {
        espl_json_open_object(w, NULL, ESPL_JSON_COMPACT);
        espl_json_put_i64(w, "iteration", j->history[i].iteration);
        st = espl_event_put_outcome(w, j, &j->history[i]);
        espl_json_close(w);
    }
    espl_json_close(w);
    return st;
}

espl_status espl_recipe_write(const espl_job *j, const int64_t *pruned, espl_str *out) {
    espl_str config = {0}, name = {0};
    espl_json_writer w = espl_json_writer_on(out);
    espl_status st;
    ESPL_CHECK(st, done, espl_config_print(j->o, ESPL_CONFIG_PORTABLE, &config));
    espl_model_put_id(j->o->model_path, &name);
    ESPL_CHECK(st, done, espl_str_status(&name));

    espl_json_open_object(&w, NULL, ESPL_JSON_LINES);
    espl_json_put_text(&w, "base_model", name.data);
    espl_json_put_text(&w, "espalier", ESPL_VERSION);
    espl_json_put_text(&w, "revision", ESPL_REVISION);
    espl_json_put_text(&w, "openblas", espl_tensor_blas_init());
    espl_json_put_text(&w, "onednn", espl_arithmetic_library());
    espl_json_put_raw(&w, "identity", j->identity.data, j->identity.len);
    espl_json_open_object(&w, "seeds", ESPL_JSON_SPACED);
    espl_json_put_i64(&w, "run", j->o->run_seed);
    espl_json_put_i64(&w, "agent", j->o->agent_seed);
    espl_json_close(&w);
    recipe_put_result(&w, j);
    espl_json_put_raw(&w, "config", config.data, config.len);
    espl_allocation_put(&w, "allocation", j, pruned);
    ESPL_CHECK(st, done, recipe_put_decisions(&w, j));
    espl_json_close(&w);
    espl_str_puts(out, "\n");
    st = espl_str_status(out);
done:
    espl_str_free(&config);
    espl_str_free(&name);
    return st;
}
