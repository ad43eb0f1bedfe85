#include "bench/report.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iostream>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/files.h"

namespace qfleet::bench {
namespace {

// 1234567 as "1,234,567"; small numbers with three digits that count.
std::string NumberText(double value) {
  if (std::abs(value) < 999.5) return absl::StrFormat("%.3g", value);
  std::string digits = absl::StrFormat("%.0f", std::abs(value));
  for (int at = static_cast<int>(digits.size()) - 3; at > 0; at -= 3) {
    digits.insert(static_cast<size_t>(at), ",");
  }
  return absl::StrCat(value < 0 ? "-" : "", digits);
}

std::string CheckText(const Check& check) {
  return absl::StrCat(check.what, " | ", NumberText(check.measured), " | ",
                      check.at_least ? ">= " : "<= ", NumberText(check.target),
                      " | ", check.met() ? "yes" : "NO");
}

nlohmann::json JsonOf(const Row& row) {
  if (!row.skipped.empty()) {
    return {{"title", row.title}, {"skipped", row.skipped}};
  }
  nlohmann::json sides = nlohmann::json::array();
  for (const Side& side : row.sides) {
    nlohmann::json json = {{"name", side.name},
                           {"median", Median(side.rounds)},
                           {"rounds", side.rounds}};
    if (!side.cost_rounds.empty()) {
      json["cpu_us_per_item"] = Median(side.cost_rounds);
    }
    if (side.bytes_per_unit > 0) {
      json["bytes_per_unit"] = side.bytes_per_unit;
    }
    sides.push_back(std::move(json));
  }
  nlohmann::json checks = nlohmann::json::array();
  for (const Check& check : row.checks) {
    checks.push_back({{"what", check.what},
                      {"measured", check.measured},
                      {"relation", check.at_least ? ">=" : "<="},
                      {"target", check.target},
                      {"met", check.met()}});
  }
  return {{"title", row.title},
          {"unit", row.unit},
          {"sides", std::move(sides)},
          {"checks", std::move(checks)}};
}

}  // namespace

double Quantile(absl::Span<const double> values, double quantile) {
  std::vector<double> sorted(values.begin(), values.end());
  std::sort(sorted.begin(), sorted.end());
  const double at = quantile * static_cast<double>(sorted.size() - 1);
  const size_t below = static_cast<size_t>(at);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return std::lerp(sorted[below], sorted[above],
                   at - static_cast<double>(below));
}

double MedianRatio(absl::Span<const double> numerators,
                   absl::Span<const double> denominators) {
  std::vector<double> ratios;
  for (size_t i = 0; i < numerators.size(); ++i) {
    ratios.push_back(numerators[i] / denominators[i]);
  }
  return Median(ratios);
}

std::string MachineText() {
  std::ifstream file("/proc/cpuinfo");
  std::string line, model = "unknown processor";
  while (std::getline(file, line)) {
    if (absl::StartsWith(line, "model name")) {
      model = line.substr(line.find(':') + 2);
      break;
    }
  }
  return absl::StrCat(model, ", ", std::thread::hardware_concurrency(),
                      " cores");
}

void Report::Add(Row row) {
  std::cout << "### " << row.title << "\n\n";
  if (!row.skipped.empty()) {
    std::cout << "skipped: " << row.skipped << "\n\n" << std::flush;
    rows_.push_back(std::move(row));
    return;
  }
  std::cout << "| side | " << row.unit
            << ", median | least | most | GB/s | CPU us/item |\n"
            << "| --- | --- | --- | --- | --- | --- |\n";
  for (const Side& side : row.sides) {
    const double median = Median(side.rounds);
    std::cout << "| " << side.name << " | " << NumberText(median) << " | "
              << NumberText(Quantile(side.rounds, 0)) << " | "
              << NumberText(Quantile(side.rounds, 1)) << " | "
              << (side.bytes_per_unit > 0
                      ? NumberText(median * side.bytes_per_unit * 1e-9)
                      : "")
              << " | "
              << (side.cost_rounds.empty()
                      ? ""
                      : NumberText(Median(side.cost_rounds)))
              << " |\n";
  }
  std::cout << "\n";
  for (const Check& check : row.checks) {
    std::cout << "| " << CheckText(check) << " |\n";
  }
  std::cout << "\n" << std::flush;
  rows_.push_back(std::move(row));
}

void Report::PrintChecks() const {
  std::cout << "### Targets\n\n| what | measured | target | met |\n"
               "| --- | --- | --- | --- |\n";
  for (const Row& row : rows_) {
    for (const Check& check : row.checks) {
      std::cout << "| " << row.title << ": " << CheckText(check) << " |\n";
    }
    if (!row.skipped.empty()) {
      std::cout << "| " << row.title << " | skipped | | |\n";
    }
  }
  std::cout << std::flush;
}

absl::Status Report::Write(const std::string& path,
                           nlohmann::json about) const {
  if (path.empty()) return absl::OkStatus();
  about["machine"] = MachineText();
  about["rows"] = nlohmann::json::array();
  for (const Row& row : rows_) about["rows"].push_back(JsonOf(row));
  return WriteFileAtomically(path, absl::StrCat(about.dump(1), "\n"));
}

}  // namespace qfleet::bench
