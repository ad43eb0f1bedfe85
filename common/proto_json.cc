#include "common/proto_json.h"

#include <utility>

#include "google/protobuf/descriptor.h"

namespace qfleet {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

// One value of a field: the field itself, or element `i` if it is repeated.
nlohmann::ordered_json Value(const Message& message,
                             const FieldDescriptor* field, int i) {
  const Reflection& r = *message.GetReflection();
  const bool repeated = field->is_repeated();
#define QFLEET_GET(Type)                             \
  (repeated ? r.GetRepeated##Type(message, field, i) \
            : r.Get##Type(message, field))
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return QFLEET_GET(Int32);
    case FieldDescriptor::CPPTYPE_INT64:
      return QFLEET_GET(Int64);
    case FieldDescriptor::CPPTYPE_UINT32:
      return QFLEET_GET(UInt32);
    case FieldDescriptor::CPPTYPE_UINT64:
      return QFLEET_GET(UInt64);
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return QFLEET_GET(Double);
    case FieldDescriptor::CPPTYPE_FLOAT:
      return QFLEET_GET(Float);
    case FieldDescriptor::CPPTYPE_BOOL:
      return QFLEET_GET(Bool);
    case FieldDescriptor::CPPTYPE_ENUM:
      return QFLEET_GET(Enum)->name();
    case FieldDescriptor::CPPTYPE_STRING:
      return QFLEET_GET(String);
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return ToJson(QFLEET_GET(Message));
  }
#undef QFLEET_GET
  return nullptr;
}

}  // namespace

nlohmann::ordered_json ToJson(const Message& message) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  const Reflection& reflection = *message.GetReflection();
  for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor* field = message.GetDescriptor()->field(i);
    if (field->is_map() || field->type() == FieldDescriptor::TYPE_BYTES) {
      continue;
    }
    if (field->is_repeated()) {
      auto list = nlohmann::ordered_json::array();
      for (int j = 0; j < reflection.FieldSize(message, field); ++j) {
        list.push_back(Value(message, field, j));
      }
      if (!list.empty()) json[field->name()] = std::move(list);
    } else if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE ||
               reflection.HasField(message, field)) {
      json[field->name()] = Value(message, field, 0);
    }
  }
  return json;
}

}  // namespace qfleet
