#include "espalier/tokenizer.h"
