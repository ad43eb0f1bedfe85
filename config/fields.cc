#include "config/fields.h"

#include <charconv>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/status_macros.h"
#include "config/config.h"
#include "qfleet/v1/config.pb.h"

namespace qfleet {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::OneofDescriptor;
using google::protobuf::Reflection;

bool IsConfigMessage(const FieldDescriptor& field) {
  return field.message_type() != nullptr &&
         field.message_type()->file() == v1::Config::descriptor()->file();
}

// A number and how it is written in an error.
struct Number {
  double value = 0;
  std::string text;
};

Number ValueOf(const Message& message, const FieldDescriptor& field,
               int index) {
  const Reflection& r = *message.GetReflection();
  const bool list = field.is_repeated();
  const FieldDescriptor* f = &field;
  auto number = [](auto value) {
    return Number{static_cast<double>(value), absl::StrCat(value)};
  };
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return number(list ? r.GetRepeatedInt32(message, f, index)
                         : r.GetInt32(message, f));
    case FieldDescriptor::CPPTYPE_INT64:
      return number(list ? r.GetRepeatedInt64(message, f, index)
                         : r.GetInt64(message, f));
    case FieldDescriptor::CPPTYPE_UINT32:
      return number(list ? r.GetRepeatedUInt32(message, f, index)
                         : r.GetUInt32(message, f));
    case FieldDescriptor::CPPTYPE_UINT64:
      return number(list ? r.GetRepeatedUInt64(message, f, index)
                         : r.GetUInt64(message, f));
    case FieldDescriptor::CPPTYPE_DOUBLE: {
      double value = list ? r.GetRepeatedDouble(message, f, index)
                          : r.GetDouble(message, f);
      return {value, NumberText(value)};
    }
    default:
      return {};  // Not a number: 0 is always finite.
  }
}

std::string RangeText(const v1::Allowed& allowed) {
  const std::string min = NumberText(allowed.min());
  const std::string max = NumberText(allowed.max());
  if (!allowed.has_min()) return absl::StrCat("at most ", max);
  if (allowed.above_min()) {
    return allowed.has_max() ? absl::StrCat("more than ", min, " up to ", max)
                             : absl::StrCat("more than ", min);
  }
  return allowed.has_max() ? absl::StrCat(min, " to ", max)
                           : absl::StrCat("at least ", min);
}

absl::Status CheckNumber(const FieldDescriptor& field, const Number& number,
                         const std::string& path) {
  const bool ranged = field.options().HasExtension(v1::allowed);
  const v1::Allowed& allowed = field.options().GetExtension(v1::allowed);
  if (!std::isfinite(number.value)) {
    return NotAllowed(
        path, number.text,
        ranged ? absl::StrCat("a finite number, ", RangeText(allowed))
               : "a finite number");
  }
  const bool low = allowed.has_min() &&
                   (number.value < allowed.min() ||
                    (allowed.above_min() && number.value == allowed.min()));
  const bool high = allowed.has_max() && number.value > allowed.max();
  if (low || high) return NotAllowed(path, number.text, RangeText(allowed));
  return absl::OkStatus();
}

absl::Status CheckRangesUnder(const Message& message,
                              const std::string& prefix) {
  const Reflection& reflection = *message.GetReflection();
  std::vector<const FieldDescriptor*> fields;
  reflection.ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) {
    const std::string path = absl::StrCat(prefix, field->name());
    if (IsConfigMessage(*field) && field->is_repeated()) {
      for (int i = 0; i < reflection.FieldSize(message, field); ++i) {
        QFLEET_RETURN_IF_ERROR(
            CheckRangesUnder(reflection.GetRepeatedMessage(message, field, i),
                             absl::StrCat(path, "[", i, "].")));
      }
    } else if (IsConfigMessage(*field)) {
      QFLEET_RETURN_IF_ERROR(CheckRangesUnder(
          reflection.GetMessage(message, field), absl::StrCat(path, ".")));
    } else if (field->message_type() != nullptr) {
      continue;
    } else if (!field->is_repeated()) {
      QFLEET_RETURN_IF_ERROR(
          CheckNumber(*field, ValueOf(message, *field, 0), path));
    } else {
      for (int i = 0; i < reflection.FieldSize(message, field); ++i) {
        QFLEET_RETURN_IF_ERROR(CheckNumber(*field, ValueOf(message, *field, i),
                                           absl::StrCat(path, "[", i, "]")));
      }
    }
  }
  return absl::OkStatus();
}

// What is named as allowed where a value's text is of another type.
std::string TypeText(const FieldDescriptor& field) {
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return "an integer of 32 bits";
    case FieldDescriptor::CPPTYPE_INT64:
      return "an integer";
    case FieldDescriptor::CPPTYPE_UINT32:
      return "an integer of 32 bits, at least 0";
    case FieldDescriptor::CPPTYPE_UINT64:
      return "an integer, at least 0";
    case FieldDescriptor::CPPTYPE_BOOL:
      return "true or false";
    case FieldDescriptor::CPPTYPE_ENUM: {
      std::vector<std::string> names;
      for (int i = 0; i < field.enum_type()->value_count(); ++i) {
        names.push_back(field.enum_type()->value(i)->name());
      }
      return absl::StrJoin(names, ", ");
    }
    default:
      return "a number";
  }
}

// Sets `field`, or adds to it where it is a list; false if `text` is not of
// its type.
bool SetScalar(const std::string& text, const FieldDescriptor& field,
               Message& message) {
  const Reflection& r = *message.GetReflection();
  const FieldDescriptor* f = &field;
  auto put = [&](auto value, auto set, auto add) {
    field.is_repeated() ? (r.*add)(&message, f, value)
                        : (r.*set)(&message, f, value);
    return true;
  };
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32: {
      int32_t value = 0;
      return absl::SimpleAtoi(text, &value) &&
             put(value, &Reflection::SetInt32, &Reflection::AddInt32);
    }
    case FieldDescriptor::CPPTYPE_INT64: {
      int64_t value = 0;
      return absl::SimpleAtoi(text, &value) &&
             put(value, &Reflection::SetInt64, &Reflection::AddInt64);
    }
    case FieldDescriptor::CPPTYPE_UINT32: {
      uint32_t value = 0;
      return absl::SimpleAtoi(text, &value) &&
             put(value, &Reflection::SetUInt32, &Reflection::AddUInt32);
    }
    case FieldDescriptor::CPPTYPE_UINT64: {
      uint64_t value = 0;
      return absl::SimpleAtoi(text, &value) &&
             put(value, &Reflection::SetUInt64, &Reflection::AddUInt64);
    }
    case FieldDescriptor::CPPTYPE_DOUBLE: {
      double value = 0;
      return absl::SimpleAtod(text, &value) &&
             put(value, &Reflection::SetDouble, &Reflection::AddDouble);
    }
    case FieldDescriptor::CPPTYPE_BOOL:
      return (text == "true" || text == "false") &&
             put(text == "true", &Reflection::SetBool, &Reflection::AddBool);
    case FieldDescriptor::CPPTYPE_ENUM: {
      const auto* value = field.enum_type()->FindValueByName(text);
      return value != nullptr &&
             put(value, &Reflection::SetEnum, &Reflection::AddEnum);
    }
    case FieldDescriptor::CPPTYPE_STRING:
      return put(text, &Reflection::SetString, &Reflection::AddString);
    default:
      return false;
  }
}

absl::Status SetText(const std::string& path, const std::string& text,
                     const FieldDescriptor& field, Message& message) {
  std::vector<std::string> values = {text};
  if (field.is_repeated()) {
    message.GetReflection()->ClearField(&message, &field);
    values = absl::StrSplit(text, ',', absl::SkipEmpty());
  }
  for (const std::string& value : values) {
    if (!SetScalar(value, field, message)) {
      return NotAllowed(path, value, TypeText(field));
    }
  }
  return absl::OkStatus();
}

absl::Status SetUnder(const std::string& path, absl::string_view rest,
                      const std::string& text, Message& message) {
  std::pair<std::string, std::string> parts =
      absl::StrSplit(rest, absl::MaxSplits('.', 1));
  const Descriptor& descriptor = *message.GetDescriptor();
  const FieldDescriptor* field = descriptor.FindFieldByName(parts.first);
  if (field == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": unknown field \"", parts.first, "\": allowed is ",
                     FieldNames(descriptor)));
  }
  const bool last = !absl::StrContains(rest, '.');
  if (field->message_type() == nullptr && last) {
    return SetText(path, text, *field, message);
  }
  if (field->message_type() == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": \"", parts.first, "\" has no fields"));
  }
  if (field->is_repeated()) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": \"", parts.first,
        "\" is a list of messages, which only the config file can set"));
  }
  if (last) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": \"", parts.first, "\" is a group: allowed is ", path,
        ".FIELD with one of ", FieldNames(*field->message_type())));
  }
  return SetUnder(path, parts.second, text,
                  *message.GetReflection()->MutableMessage(&message, field));
}

}  // namespace

absl::Status NotAllowed(absl::string_view field, absl::string_view value,
                        absl::string_view allowed) {
  return absl::InvalidArgumentError(
      absl::StrCat(field, " = ", value, ": allowed is ", allowed));
}

std::string NumberText(double value) {
  char buffer[64];
  const bool whole = value == std::floor(value) && std::abs(value) < 1e15;
  auto result = whole ? std::to_chars(buffer, buffer + sizeof(buffer), value,
                                      std::chars_format::fixed)
                      : std::to_chars(buffer, buffer + sizeof(buffer), value);
  return std::string(buffer, result.ptr);
}

std::string FieldNames(const Descriptor& message) {
  std::vector<std::string> names;
  for (int i = 0; i < message.field_count(); ++i) {
    names.push_back(message.field(i)->name());
  }
  return absl::StrJoin(names, ", ");
}

void FillDefaults(Message& message) {
  const Descriptor& descriptor = *message.GetDescriptor();
  const Reflection& reflection = *message.GetReflection();
  for (int i = 0; i < descriptor.real_oneof_decl_count(); ++i) {
    const OneofDescriptor* oneof = descriptor.oneof_decl(i);
    if (!reflection.HasOneof(message, oneof)) {
      reflection.MutableMessage(&message, oneof->field(0));
    }
  }
  for (int i = 0; i < descriptor.field_count(); ++i) {
    const FieldDescriptor* field = descriptor.field(i);
    if (field->is_repeated()) {
      if (!IsConfigMessage(*field)) continue;
      for (int j = 0; j < reflection.FieldSize(message, field); ++j) {
        FillDefaults(*reflection.MutableRepeatedMessage(&message, field, j));
      }
      continue;
    }
    const bool set = reflection.HasField(message, field);
    if (IsConfigMessage(*field)) {
      if (!set && field->real_containing_oneof() != nullptr) continue;
      FillDefaults(*reflection.MutableMessage(&message, field));
    } else if (!set && field->has_default_value()) {
      switch (field->cpp_type()) {
        case FieldDescriptor::CPPTYPE_BOOL:
          reflection.SetBool(&message, field, field->default_value_bool());
          break;
        case FieldDescriptor::CPPTYPE_STRING:
          reflection.SetString(&message, field, field->default_value_string());
          break;
        case FieldDescriptor::CPPTYPE_ENUM:
          reflection.SetEnum(&message, field, field->default_value_enum());
          break;
        default:  // A getter of an unset field gives its default.
          SetScalar(ValueOf(message, *field, 0).text, *field, message);
      }
    }
  }
}

absl::Status CheckRanges(const Message& message) {
  return CheckRangesUnder(message, "");
}

absl::Status SetField(const std::string& assignment, v1::Config& config) {
  const size_t equals = assignment.find('=');
  if (equals == std::string::npos || equals == 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--set \"", assignment, "\": allowed is path.to.field=value"));
  }
  const std::string path = assignment.substr(0, equals);
  std::string text = assignment.substr(equals + 1);
  if (text.size() >= 2 && text.front() == '"' && text.back() == '"') {
    text = text.substr(1, text.size() - 2);
  }
  // On a copy: a refused assignment changes nothing.
  v1::Config changed = config;
  QFLEET_RETURN_IF_ERROR(SetUnder(path, path, text, changed));
  config = std::move(changed);
  return absl::OkStatus();
}

}  // namespace qfleet
