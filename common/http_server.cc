#include "common/http_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <thread>
#include <type_traits>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "civetweb.h"

namespace qfleet {
namespace {

constexpr char kThreads[] = "8";
constexpr char kWaitingConnections[] = "16";
constexpr char kRequestBytes[] = "8192";
constexpr char kRequestMs[] = "1000";
constexpr absl::Duration kAnswerTime = absl::Seconds(3);
constexpr size_t kPieceBytes = 16 << 10;
constexpr size_t kWorthCompressing = 1 << 10;

const char* Reason(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 400:
      return "Bad Request";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 503:
      return "Service Unavailable";
    default:
      return status < 500 ? "Error" : "Server Error";
  }
}

// Whether "gzip" is in an Accept-Encoding, and not with a weight of 0.
bool AcceptsGzip(const char* header) {
  if (header == nullptr) return false;
  for (absl::string_view part : absl::StrSplit(header, ',')) {
    std::pair<absl::string_view, absl::string_view> coding =
        absl::StrSplit(part, absl::MaxSplits(';', 1));
    if (!absl::EqualsIgnoreCase(absl::StripAsciiWhitespace(coding.first),
                                "gzip")) {
      continue;
    }
    absl::string_view weight = absl::StripAsciiWhitespace(coding.second);
    double value = 1;
    if (absl::ConsumePrefix(&weight, "q=")) {
      (void)absl::SimpleAtod(weight, &value);
    }
    return value > 0;
  }
  return false;
}

// Empty if zlib cannot.
std::string Gzip(const std::string& text) {
  constexpr int kGzipWindow = 15 + 16;  // 16: with gzip's header.
  z_stream stream = {};
  if (deflateInit2(&stream, Z_BEST_SPEED, Z_DEFLATED, kGzipWindow,
                   /*memLevel=*/8, Z_DEFAULT_STRATEGY) != Z_OK) {
    return "";
  }
  std::string out(deflateBound(&stream, text.size()), '\0');
  stream.next_in =
      reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));  // zlib's way.
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  const bool whole = deflate(&stream, Z_FINISH) == Z_STREAM_END;
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return whole ? out : "";
}

// A client that takes next to nothing does not get the rest.
void Send(mg_connection* connection, absl::string_view bytes) {
  const absl::Time end = absl::Now() + kAnswerTime;
  while (!bytes.empty() && absl::Now() < end) {
    const size_t piece = std::min(bytes.size(), kPieceBytes);
    const int sent = mg_write(connection, bytes.data(), piece);
    if (sent != static_cast<int>(piece)) return;
    bytes.remove_prefix(piece);
  }
}

void SendResponse(mg_connection* connection, HttpResponse response,
                  bool accepts_gzip, bool with_body) {
  bool compressed = false;
  if (accepts_gzip && response.body.size() >= kWorthCompressing) {
    std::string smaller = Gzip(response.body);
    compressed = !smaller.empty();
    if (compressed) response.body = std::move(smaller);
  }
  std::string policy = response.content_security_policy;
  if (policy.empty()) policy = "default-src 'none'; frame-ancestors 'none'";
  std::string text = absl::StrCat(
      "HTTP/1.1 ", response.status, " ", Reason(response.status),
      "\r\nContent-Type: ", response.type,
      "\r\nContent-Length: ", response.body.size(),
      "\r\nConnection: close"
      "\r\nCache-Control: no-store"
      "\r\nContent-Security-Policy: ",
      policy,
      "\r\nX-Content-Type-Options: nosniff"
      "\r\nX-Frame-Options: DENY"
      "\r\nReferrer-Policy: no-referrer"
      "\r\nCross-Origin-Resource-Policy: same-origin"
      "\r\nVary: Accept-Encoding\r\n");
  if (response.status == 405) absl::StrAppend(&text, "Allow: GET, HEAD\r\n");
  if (compressed) absl::StrAppend(&text, "Content-Encoding: gzip\r\n");
  absl::StrAppend(&text, "\r\n");
  if (with_body) text += response.body;
  Send(connection, text);
}

// "host:port", "[v6]:port". CivetWeb's own syntax has lists, TLS and
// redirections beside.
bool SplitAddress(const std::string& address, std::string& host, int& port) {
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos || colon == 0) return false;
  host = address.substr(0, colon);
  const std::string digits = address.substr(colon + 1);
  const bool bracketed = host.front() == '[' && host.back() == ']';
  const auto fits = [bracketed](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' ||
           c == '-' || (bracketed && (c == ':' || c == '[' || c == ']'));
  };
  return std::all_of(host.begin(), host.end(), fits) && !digits.empty() &&
         std::all_of(digits.begin(), digits.end(),
                     [](unsigned char c) { return absl::ascii_isdigit(c); }) &&
         absl::SimpleAtoi(digits, &port) && port <= 65535;
}

// To the server itself, where it listens.
void ConnectOnce(const std::string& host, int port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  if (inet_pton(AF_INET, host.c_str(), &address.sin_addr) != 1 ||
      address.sin_addr.s_addr == htonl(INADDR_ANY)) {
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  }
  const int fd =
      socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return;
  (void)!connect(fd, reinterpret_cast<const sockaddr*>(&address),
                 sizeof(address));
  close(fd);
}

int Silent(const mg_connection*, const char*) { return 1; }

}  // namespace

HttpServer::~HttpServer() {
  if (context_ == nullptr) return;
  // CivetWeb looks whether it shall stop only when its poll returns, every 2 s
  // or at a connection: give it connections until it has stopped.
  std::atomic<bool> stopped{false};
  std::thread nudge([this, &stopped] {
    while (!stopped.load()) {
      ConnectOnce(host_, port_);
      absl::SleepFor(absl::Milliseconds(5));
    }
  });
  mg_stop(context_);
  stopped.store(true);
  nudge.join();
}

void HttpServer::Handle(const std::string& path, Handler handler) {
  handlers_[path] = std::move(handler);
}

absl::StatusOr<std::string> HttpServer::Start(const std::string& address) {
  if (!SplitAddress(address, host_, port_)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "metrics address ", address,
        ": allowed is host:port, port 0 to 65535"));
  }
  static const bool initialised = [] {
    mg_init_library(0);
    return true;
  }();
  (void)initialised;
  mg_callbacks callbacks = {};
  callbacks.begin_request = OnRequest;
  callbacks.http_error = OnError;
  callbacks.log_message = Silent;
  callbacks.log_access = Silent;
  const char* options[] = {"listening_ports", address.c_str(),
                           "num_threads", kThreads,
                           "connection_queue", kWaitingConnections,
                           "max_request_size", kRequestBytes,
                           "request_timeout_ms", kRequestMs,
                           "enable_keep_alive", "no",
                           "enable_directory_listing", "no",
                           "tcp_nodelay", "1",
                           nullptr};
  mg_init_data init = {&callbacks, this, options};
  char text[256] = "";
  unsigned code = 0;
  mg_error_data error = {};
  error.text = text;
  error.text_buffer_size = sizeof(text);
  // Before civetweb 1.16 the code is where this points to.
  [&code](auto& data) {
    if constexpr (std::is_pointer_v<decltype(data.code)>) data.code = &code;
  }(error);
  context_ = mg_start2(&init, &error);
  mg_server_port port = {};
  if (context_ == nullptr || mg_get_server_ports(context_, 1, &port) != 1) {
    return absl::UnavailableError(absl::StrCat(
        "metrics address ", address,
        ": cannot listen there; is the port in use? (", text, ")"));
  }
  port_ = port.port;
  return absl::StrCat(host_, ":", port_);
}

int HttpServer::OnRequest(mg_connection* connection) {
  const auto* server = static_cast<const HttpServer*>(
      mg_get_user_data(mg_get_context(connection)));
  return server->Answer(connection);
}

int HttpServer::Answer(mg_connection* connection) const {
  const mg_request_info& request = *mg_get_request_info(connection);
  const absl::string_view method = request.request_method;
  const absl::string_view path =
      request.local_uri == nullptr ? "" : request.local_uri;
  HttpResponse response;
  if (method != "GET" && method != "HEAD") {
    response = {.status = 405, .body = "allowed are GET and HEAD\n"};
  } else if (const auto handler = handlers_.find(std::string(path));
             handler != handlers_.end()) {
    response = handler->second();
  } else {
    response = {.status = 404, .body = "no such page\n"};
  }
  const int status = response.status;
  SendResponse(connection, std::move(response),
               AcceptsGzip(mg_get_header(connection, "Accept-Encoding")),
               /*with_body=*/method != "HEAD");
  return status;
}

// Of a request that did not parse.
int HttpServer::OnError(mg_connection* connection, int status,
                        const char* message) {
  SendResponse(connection,
               {.status = status,
                .body = absl::StrCat(message == nullptr ? "" : message, "\n")},
               /*accepts_gzip=*/false, /*with_body=*/true);
  return 0;
}

}  // namespace qfleet
