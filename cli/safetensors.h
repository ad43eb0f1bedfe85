// Weights for other programs: the .safetensors format.
//
//   u64 length of the header | header, JSON | data of the tensors
//
// little-endian; the header has for each tensor its dtype, its shape and where
// in the data it begins and ends.

#ifndef QFLEET_CLI_SAFETENSORS_H_
#define QFLEET_CLI_SAFETENSORS_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "qfleet/v1/checkpoint.pb.h"

namespace qfleet {

// The flat float32 vector of a checkpoint that `weights` names, as bytes:
// "policy", "published", or a tensor of the algorithm ("online").
// INVALID_ARGUMENT naming those there are.
absl::StatusOr<absl::string_view> WeightsOf(const v1::Checkpoint& checkpoint,
                                            const std::string& weights);

// A file's bytes: a tensor for each parameter of `flat`. FAILED_PRECONDITION if
// it is not a vector of the checkpoint's network.
absl::StatusOr<std::string> ToSafetensors(const v1::Checkpoint& checkpoint,
                                          absl::string_view flat);

}  // namespace qfleet

#endif  // QFLEET_CLI_SAFETENSORS_H_
