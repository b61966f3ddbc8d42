#include "espalier/weights.h"
