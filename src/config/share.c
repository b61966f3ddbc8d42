/* One configuration on every rank. */
#include "espalier/config/config.h"

espl_status espl_config_share(espl_comm *c, espl_config *o) {
    espl_str text = {0};
    espl_status st = espl_comm_rank(c) == 0 ? espl_config_print(o, false, &text) : ESPL_OK;
    st = espl_comm_agree(c, st);
    if (st == ESPL_OK) st = espl_comm_broadcast_str(c, &text, 0);
    if (st == ESPL_OK && espl_comm_rank(c) != 0)
        st = espl_config_parse(text.data, text.len, "configuration of rank 0", o);
    espl_str_free(&text);
    return espl_comm_agree(c, st);
}
