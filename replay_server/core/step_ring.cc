#include "replay_server/core/step_ring.h"

#include <cstddef>
#include <utility>

#include "common/hash.h"
#include "replay_server/core/table_state.h"

namespace qfleet {
namespace {

uint32_t CheckOf(const StepHeader& header) {
  return Hash32(&header, offsetof(StepHeader, check));
}

}  // namespace

StepRing::StepRing(char* headers, char* payload, uint64_t capacity,
                   RowLayout layout)
    : layout_(std::move(layout)),
      capacity_(capacity),
      headers_(reinterpret_cast<StepHeader*>(headers)),
      payload_(payload),
      first_item_(capacity) {}

StepHeader& StepRing::BeginWrite(uint64_t id) {
  StepHeader& step = header(id);
  step.tag = 0;
  StoreBarrier();
  return step;
}

void StepRing::EndWrite(uint64_t id) {
  StepHeader& step = header(id);
  step.payload_check = Hash32(row(id), layout_.payload);
  StepHeader whole = step;
  whole.tag = id + 1;
  step.check = CheckOf(whole);
  StoreBarrier();
  step.tag = whole.tag;
}

bool StepRing::PayloadIsWhole(uint64_t id) const {
  return header(id).payload_check == Hash32(row(id), layout_.payload);
}

StepRing::Recovered StepRing::Recover() {
  Recovered recovered;
  for (uint64_t row = 0; row < capacity_; ++row) {
    StepHeader& step = headers_[row];
    if (step.tag == 0) continue;  // Never written, or torn by a kill.
    if ((step.tag - 1) % capacity_ != row || step.check != CheckOf(step)) {
      step.tag = 0;
      ++recovered.damaged;
      continue;
    }
    next_id_ = std::max(next_id_, step.tag);
  }
  for (uint64_t id = oldest_id(); id < next_id_; ++id) {
    recovered.empty_rows |= !Has(id);
  }
  return recovered;
}

}  // namespace qfleet
