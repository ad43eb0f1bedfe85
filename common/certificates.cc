#include "common/certificates.h"

#include <fcntl.h>
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/x509.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/files.h"
#include "common/status_macros.h"
#include "spdlog/spdlog.h"

namespace qfleet {
namespace {

constexpr char kField[] = "cluster.security.";
constexpr size_t kLeastToken = 16;
constexpr size_t kLongestToken = 4096;
// Of one file; a bundle of all public authorities has a quarter of it.
constexpr size_t kLargestFile = 1 << 20;

absl::Status NotAllowed(absl::string_view field, const std::string& path,
                        absl::string_view why) {
  return absl::InvalidArgumentError(
      absl::StrCat(kField, field, " = \"", path, "\": ", why));
}

absl::StatusOr<std::string> ReadSmall(absl::string_view field,
                                      const std::string& path) {
  struct stat info = {};
  if (stat(path.c_str(), &info) != 0) {
    return NotAllowed(field, path,
                      absl::StrCat("cannot be read (", strerror(errno),
                                   "): allowed is a file"));
  }
  if (!S_ISREG(info.st_mode) ||
      info.st_size > static_cast<off_t>(kLargestFile)) {
    return NotAllowed(field, path, "allowed is a file of at most 1 MiB");
  }
  absl::StatusOr<std::string> text = ReadFile(path);
  if (!text.ok()) {
    return NotAllowed(field, path,
                      absl::StrCat("cannot be read (", strerror(errno),
                                   "): allowed is a file"));
  }
  return text;
}

// The same, of a file that only its owner, and at most its group, may read.
absl::StatusOr<std::string> ReadSecret(absl::string_view field,
                                       const std::string& path) {
  QFLEET_ASSIGN_OR_RETURN(std::string text, ReadSmall(field, path));
  struct stat info = {};
  if (stat(path.c_str(), &info) == 0 && (info.st_mode & S_IRWXO) != 0) {
    return NotAllowed(
        field, path,
        absl::StrCat("other users can open it (mode ",
                     absl::StrCat("0", (info.st_mode >> 6) & 7,
                                  (info.st_mode >> 3) & 7, info.st_mode & 7),
                     "): allowed is one that they cannot (chmod o= )"));
  }
  return text;
}

using Certificate = std::unique_ptr<X509, decltype(&X509_free)>;

// The certificates of a PEM text, in its order; empty if there is none or one
// of them is no certificate.
std::vector<Certificate> ParseCertificates(const std::string& pem) {
  std::vector<Certificate> certificates;
  std::unique_ptr<BIO, decltype(&BIO_free)> bio(
      BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())), BIO_free);
  while (X509* x509 = PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr)) {
    certificates.emplace_back(x509, X509_free);
  }
  const bool end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  ERR_clear_error();
  if (!end) certificates.clear();
  return certificates;
}

std::string TimeText(const ASN1_TIME* time) {
  std::tm parts = {};
  if (ASN1_TIME_to_tm(time, &parts) != 1) return "an unknown time";
  return absl::FormatTime("%Y-%m-%d %H:%M:%S UTC",
                          absl::FromTM(parts, absl::UTCTimeZone()),
                          absl::UTCTimeZone());
}

// Its owner must not be asked for a password.
int NoPassword(char*, int, int, void*) { return 0; }

// That this is a certificate which is valid now, and its key. Returns until
// when it is valid.
absl::StatusOr<std::string> CheckOwn(const v1::SecurityConfig& config,
                                     const std::string& chain,
                                     const std::string& key) {
  const std::vector<Certificate> certificates = ParseCertificates(chain);
  if (certificates.empty()) {
    return NotAllowed("certificate", config.certificate(),
                      "allowed is a file with certificates in PEM");
  }
  X509* own = certificates.front().get();
  std::unique_ptr<BIO, decltype(&BIO_free)> bio(
      BIO_new_mem_buf(key.data(), static_cast<int>(key.size())), BIO_free);
  std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> parsed(
      PEM_read_bio_PrivateKey(bio.get(), nullptr, NoPassword, nullptr),
      EVP_PKEY_free);
  const bool matches =
      parsed != nullptr && X509_check_private_key(own, parsed.get()) == 1;
  ERR_clear_error();
  if (parsed == nullptr) {
    return NotAllowed("key", config.key(),
                      "allowed is a file with a private key in PEM that has no "
                      "password");
  }
  if (!matches) {
    return NotAllowed("key", config.key(),
                      absl::StrCat("allowed is the key of the certificate in ",
                                   config.certificate()));
  }
  const std::string end = TimeText(X509_get0_notAfter(own));
  if (X509_cmp_current_time(X509_get0_notBefore(own)) > 0) {
    return NotAllowed(
        "certificate", config.certificate(),
        absl::StrCat("valid from ", TimeText(X509_get0_notBefore(own)),
                     " on: allowed is one that is valid now"));
  }
  if (X509_cmp_current_time(X509_get0_notAfter(own)) < 0) {
    return NotAllowed(
        "certificate", config.certificate(),
        absl::StrCat("expired ", end, ": allowed is one that is valid now"));
  }
  return end;
}

// Makes descriptor `fd`, or a new one, a file in memory with this content. A
// reader sees the old one or the new one, whole.
absl::Status PutInMemory(absl::string_view content, int& fd) {
  const int fresh = memfd_create("qfleet-certificates", MFD_CLOEXEC);
  if (fresh < 0) return absl::ErrnoToStatus(errno, "memfd_create");
  while (!content.empty()) {
    const ssize_t size = write(fresh, content.data(), content.size());
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) {
      close(fresh);
      return absl::ErrnoToStatus(errno, "cannot write a file in memory");
    }
    content.remove_prefix(static_cast<size_t>(size));
  }
  if (fd < 0) {
    fd = fresh;
    return absl::OkStatus();
  }
  const bool ok = dup3(fresh, fd, O_CLOEXEC) >= 0;
  close(fresh);
  return ok ? absl::OkStatus() : absl::ErrnoToStatus(errno, "dup3");
}

std::string PathOf(int fd) { return absl::StrCat("/proc/self/fd/", fd); }

std::string HashOf(absl::string_view token) {
  std::string hash(SHA256_DIGEST_LENGTH, '\0');
  SHA256(reinterpret_cast<const unsigned char*>(token.data()), token.size(),
         reinterpret_cast<unsigned char*>(hash.data()));
  return hash;
}

absl::StatusOr<std::vector<std::string>> ParseTokens(const std::string& path,
                                                     const std::string& text) {
  std::vector<std::string> tokens;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    line = absl::StripAsciiWhitespace(line);
    if (line.empty()) continue;
    if (line.size() < kLeastToken || line.size() > kLongestToken ||
        !std::all_of(line.begin(), line.end(), absl::ascii_isgraph)) {
      return NotAllowed(
          "token_file", path,
          absl::StrCat("token ", tokens.size() + 1, " has ", line.size(),
                       " characters: allowed is 16 to 4096, "
                       "printable ones without spaces"));
    }
    tokens.emplace_back(line);
  }
  if (tokens.empty()) {
    return NotAllowed("token_file", path,
                      "holds no token: allowed is one on each line");
  }
  return tokens;
}

// Says it once, until there is something else; it may be tried again and again.
void LogRefused(const absl::Status& status, std::string& said) {
  if (said == status.message()) return;
  said = std::string(status.message());
  spdlog::error("not taken, what was there before stays: {}", said);
}

}  // namespace

struct Certificates::Files {
  std::string ca;
  std::string own;  // Certificate and key in one text.
  std::string valid_until;
  std::string bytes;  // Of all of them, as they are on the disk.
};

absl::StatusOr<Certificates::Files> Certificates::Read(
    const v1::SecurityConfig& config) {
  Files files;
  QFLEET_ASSIGN_OR_RETURN(files.ca, ReadSmall("ca", config.ca()));
  if (ParseCertificates(files.ca).empty()) {
    return NotAllowed("ca", config.ca(),
                      "allowed is a file with certificates in PEM");
  }
  files.bytes = files.ca;
  if (config.certificate().empty()) return files;
  QFLEET_ASSIGN_OR_RETURN(const std::string chain,
                          ReadSmall("certificate", config.certificate()));
  // gRPC takes the first key that it sees.
  if (absl::StrContains(chain, "PRIVATE KEY-----")) {
    return NotAllowed("certificate", config.certificate(),
                      "holds a key: allowed are certificates alone");
  }
  QFLEET_ASSIGN_OR_RETURN(const std::string key,
                          ReadSecret("key", config.key()));
  QFLEET_ASSIGN_OR_RETURN(files.valid_until, CheckOwn(config, chain, key));
  // One file for both, so that both are of one renewal.
  files.own = absl::StrCat(chain, "\n", key);
  absl::StrAppend(&files.bytes, chain, key);
  return files;
}

absl::StatusOr<std::unique_ptr<Certificates>> Certificates::Load(
    const v1::SecurityConfig& config) {
  QFLEET_ASSIGN_OR_RETURN(const Files files, Read(config));
  std::unique_ptr<Certificates> certificates(new Certificates(config));
  QFLEET_RETURN_IF_ERROR(certificates->Publish(files));
  certificates->seen_ = files.bytes;
  const std::string own =
      certificates->has_own() ? PathOf(certificates->own_fd_) : "";
  constexpr unsigned int kRefreshSeconds = 1;
  certificates->provider_ =
      std::make_shared<grpc::experimental::FileWatcherCertificateProvider>(
          own, own, PathOf(certificates->ca_fd_), kRefreshSeconds);
  return certificates;
}

Certificates::~Certificates() {
  provider_.reset();
  // Channels may hold the provider, which must not read somebody else's files:
  // the descriptors stay.
}

absl::Status Certificates::Publish(const Files& files) {
  QFLEET_RETURN_IF_ERROR(PutInMemory(files.ca, ca_fd_));
  return has_own() ? PutInMemory(files.own, own_fd_) : absl::OkStatus();
}

void Certificates::Reload() {
  const absl::StatusOr<Files> files = Read(config_);
  absl::Status status = files.status();
  const bool same = status.ok() && files->bytes == seen_;
  if (status.ok() && !same) status = Publish(*files);
  if (!status.ok()) return LogRefused(status, said_);
  said_.clear();
  if (same) return;
  seen_ = files->bytes;
  if (has_own()) {
    spdlog::info("new certificates; {} is valid until {}",
                 config_.certificate(), files->valid_until);
  } else {
    spdlog::info("new certificates in {}", config_.ca());
  }
}

absl::StatusOr<std::unique_ptr<Tokens>> Tokens::Load(const std::string& path) {
  std::unique_ptr<Tokens> tokens(new Tokens(path));
  QFLEET_ASSIGN_OR_RETURN(const std::string text,
                          ReadSecret("token_file", path));
  QFLEET_RETURN_IF_ERROR(tokens->Take(text));
  return tokens;
}

absl::Status Tokens::Take(const std::string& text) {
  QFLEET_ASSIGN_OR_RETURN(const std::vector<std::string> parsed,
                          ParseTokens(path_, text));
  seen_ = text;
  absl::MutexLock lock(&mutex_);
  first_ = parsed.front();
  hashes_.clear();
  for (const std::string& token : parsed) hashes_.push_back(HashOf(token));
  return absl::OkStatus();
}

void Tokens::Reload() {
  const absl::StatusOr<std::string> text = ReadSecret("token_file", path_);
  absl::Status status = text.status();
  const bool same = status.ok() && *text == seen_;
  if (status.ok() && !same) status = Take(*text);
  if (!status.ok()) return LogRefused(status, said_);
  said_.clear();
  if (same) return;
  absl::MutexLock lock(&mutex_);
  spdlog::info("new tokens in {}: {}", path_, hashes_.size());
}

std::string Tokens::first() const {
  absl::MutexLock lock(&mutex_);
  return first_;
}

bool Tokens::Accepts(absl::string_view token) const {
  // Hashes have one length, and say nothing of where two tokens differ.
  const std::string hash = HashOf(token);
  absl::MutexLock lock(&mutex_);
  int found = 0;
  for (const std::string& known : hashes_) {
    found |= static_cast<int>(
        CRYPTO_memcmp(known.data(), hash.data(), hash.size()) == 0);
  }
  return found != 0;
}

}  // namespace qfleet
