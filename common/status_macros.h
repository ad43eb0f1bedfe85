// Early return on an absl::Status that is not OK.
//
//   QFLEET_RETURN_IF_ERROR(table.Validate(batch));
//   QFLEET_ASSIGN_OR_RETURN(auto file, OpenFile(path));

#ifndef QFLEET_COMMON_STATUS_MACROS_H_
#define QFLEET_COMMON_STATUS_MACROS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define QFLEET_RETURN_IF_ERROR(expression)                                  \
  do {                                                                      \
    if (absl::Status qfleet_status_ = (expression); !qfleet_status_.ok()) { \
      return qfleet_status_;                                                \
    }                                                                       \
  } while (false)

#define QFLEET_CONCAT_INNER_(a, b) a##b
#define QFLEET_CONCAT_(a, b) QFLEET_CONCAT_INNER_(a, b)
#define QFLEET_ASSIGN_OR_RETURN(target, expression)                          \
  QFLEET_ASSIGN_OR_RETURN_INNER_(QFLEET_CONCAT_(qfleet_statusor_, __LINE__), \
                                 target, expression)
#define QFLEET_ASSIGN_OR_RETURN_INNER_(name, target, expression) \
  auto name = (expression);                                      \
  if (!name.ok()) return std::move(name).status();               \
  target = *std::move(name)

#endif  // QFLEET_COMMON_STATUS_MACROS_H_
