// The files that say who a process is: certificates, a private key, tokens.
// Read, checked in words, and read again when they change; what does not pass
// the checks is not taken, and what was there before stays in use.
//
//   QFLEET_ASSIGN_OR_RETURN(auto certificates, Certificates::Load(config));
//   options.set_certificate_provider(certificates->provider());
//   ...
//   certificates->Reload();  // once a second
//
// gRPC's own provider watches files, but takes a key that does not match its
// certificate, and then refuses every connection: what lies on the disk between
// the two writes of a renewal would cut a cluster off. So it is given files in
// memory, which hold only what has passed.

#ifndef QFLEET_COMMON_CERTIFICATES_H_
#define QFLEET_COMMON_CERTIFICATES_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "grpcpp/security/tls_certificate_provider.h"
#include "qfleet/v1/config.pb.h"

namespace qfleet {

// Authorities, and the process's own certificate if it has one. Thread-
// compatible, but for the provider, which gRPC reads in threads of its own.
class Certificates {
 public:
  // INVALID_ARGUMENT names the field, the file and what is allowed: unreadable,
  // no PEM, a key that is another's or that other users can read, a certificate
  // that is not valid now. `config.ca` is set.
  static absl::StatusOr<std::unique_ptr<Certificates>> Load(
      const v1::SecurityConfig& config);
  ~Certificates();

  bool has_own() const { return !config_.certificate().empty(); }

  // Takes what has changed and logs it, or logs why not. gRPC has it within a
  // second.
  void Reload();

  const std::shared_ptr<grpc::experimental::CertificateProviderInterface>&
  provider() const {
    return provider_;
  }

 private:
  struct Files;
  static absl::StatusOr<Files> Read(const v1::SecurityConfig& config);

  explicit Certificates(const v1::SecurityConfig& config) : config_(config) {}
  absl::Status Publish(const Files& files);

  const v1::SecurityConfig config_;
  std::string seen_;  // The bytes of the files that are in use.
  std::string said_;  // Why those that are there now are not.
  // Descriptors of the files in memory; their numbers never change.
  int ca_fd_ = -1;
  int own_fd_ = -1;  // Certificate and key.
  std::shared_ptr<grpc::experimental::CertificateProviderInterface> provider_;
};

// The tokens of a file. Thread-safe.
class Tokens {
 public:
  // INVALID_ARGUMENT as above; never with a token in its words.
  static absl::StatusOr<std::unique_ptr<Tokens>> Load(const std::string& path);

  void Reload();  // As Certificates::Reload.

  // What clients send.
  std::string first() const;
  // Takes the same time whatever `token` is like.
  bool Accepts(absl::string_view token) const;

 private:
  explicit Tokens(const std::string& path) : path_(path) {}

  // Uses `text`, the file's.
  absl::Status Take(const std::string& text);

  const std::string path_;
  std::string seen_;  // The text in use.
  std::string said_;  // Why what is there now is not.
  mutable absl::Mutex mutex_;
  std::string first_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> hashes_ ABSL_GUARDED_BY(mutex_);  // SHA-256 of each.
};

}  // namespace qfleet

#endif  // QFLEET_COMMON_CERTIFICATES_H_
