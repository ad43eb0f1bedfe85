// What a network's flat vector consists of, for those who encode it
// (weights/codec.h).

#ifndef QFLEET_MODEL_WEIGHT_LAYOUT_H_
#define QFLEET_MODEL_WEIGHT_LAYOUT_H_

#include "model/network.h"
#include "weights/codec.h"

namespace qfleet {

// A span for each parameter: weights (and what a noisy layer adds to them) have
// their first extent as channels, biases none.
WeightLayout LayoutOf(const Network& network);

}  // namespace qfleet

#endif  // QFLEET_MODEL_WEIGHT_LAYOUT_H_
