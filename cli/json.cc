#include "cli/json.h"

namespace qfleet {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using Json = nlohmann::ordered_json;

Json ValueOf(const Message& message, const FieldDescriptor* f, int i) {
  const Reflection& r = *message.GetReflection();
  const bool list = f->is_repeated();
  switch (f->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return list ? r.GetRepeatedInt32(message, f, i) : r.GetInt32(message, f);
    case FieldDescriptor::CPPTYPE_INT64:
      return list ? r.GetRepeatedInt64(message, f, i) : r.GetInt64(message, f);
    case FieldDescriptor::CPPTYPE_UINT32:
      return list ? r.GetRepeatedUInt32(message, f, i)
                  : r.GetUInt32(message, f);
    case FieldDescriptor::CPPTYPE_UINT64:
      return list ? r.GetRepeatedUInt64(message, f, i)
                  : r.GetUInt64(message, f);
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return list ? r.GetRepeatedDouble(message, f, i)
                  : r.GetDouble(message, f);
    case FieldDescriptor::CPPTYPE_FLOAT:
      return list ? r.GetRepeatedFloat(message, f, i) : r.GetFloat(message, f);
    case FieldDescriptor::CPPTYPE_BOOL:
      return list ? r.GetRepeatedBool(message, f, i) : r.GetBool(message, f);
    case FieldDescriptor::CPPTYPE_ENUM:
      return list ? r.GetRepeatedEnum(message, f, i)->name()
                  : r.GetEnum(message, f)->name();
    case FieldDescriptor::CPPTYPE_STRING:
      return list ? r.GetRepeatedString(message, f, i)
                  : r.GetString(message, f);
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return ToJson(list ? r.GetRepeatedMessage(message, f, i)
                         : r.GetMessage(message, f));
  }
  return nullptr;
}

}  // namespace

Json ToJson(const Message& message) {
  const Reflection& reflection = *message.GetReflection();
  Json object = Json::object();
  for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor* field = message.GetDescriptor()->field(i);
    if (field->is_repeated()) {
      Json list = Json::array();
      for (int j = 0; j < reflection.FieldSize(message, field); ++j) {
        list.push_back(ValueOf(message, field, j));
      }
      if (!list.empty()) object[field->name()] = std::move(list);
    } else if (field->message_type() == nullptr ||
               reflection.HasField(message, field)) {
      object[field->name()] = ValueOf(message, field, 0);
    }
  }
  return object;
}

}  // namespace qfleet
