#include "weights/publication.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/hash.h"
#include "common/status_macros.h"

namespace qfleet {

absl::StatusOr<v1::Publication> EncodePublication(
    const v1::Publication& fp32, v1::WeightCodec codec,
    const Calibration& calibration) {
  QFLEET_ASSIGN_OR_RETURN(
      std::string encoded,
      EncodeWeights(fp32.parameters(), fp32.layout(), codec, calibration));
  v1::Publication publication;
  publication.set_version(fp32.version());
  publication.set_updates(fp32.updates());
  publication.set_network(fp32.network());
  publication.set_env_steps(fp32.env_steps());
  *publication.mutable_layout() = fp32.layout();
  publication.set_codec(codec);
  publication.set_hash(Hash64(encoded));
  publication.set_parameters(std::move(encoded));
  return publication;
}

absl::Status CheckWhole(const v1::Publication& publication,
                        const WeightLayout& layout) {
  QFLEET_RETURN_IF_ERROR(
      CheckEncoded(publication.parameters(), layout, publication.codec()));
  if (Hash64(publication.parameters()) != publication.hash()) {
    return absl::DataLossError(absl::StrCat("weights of version ",
                                            publication.version(),
                                            ": the checksum does not match"));
  }
  return absl::OkStatus();
}

}  // namespace qfleet
