// A small HTTP server for a process's own pages: GET and HEAD of fixed paths.
//
//   HttpServer server;
//   server.Handle("/healthz", [] { return HttpResponse{.body = "alive\n"}; });
//   QFLEET_ASSIGN_OR_RETURN(std::string address, server.Start("127.0.0.1:0"));
//
// Whatever a client does costs no more than this: 8 threads, 16 connections
// that wait for one of them (the kernel holds some more), 8 KiB of request,
// 1 s for a request to come, and as long again without progress, or 3 s in all,
// for the answer to go. A connection has one request. Bodies of requests are
// not read. What does not parse is 400, other paths are 404, other methods 405.
//
// Around CivetWeb; only its parser and its threads are used, no file, script or
// option of it can be reached by a request.

#ifndef QFLEET_COMMON_HTTP_SERVER_H_
#define QFLEET_COMMON_HTTP_SERVER_H_

#include <functional>
#include <map>
#include <string>

#include "absl/status/statusor.h"

struct mg_connection;
struct mg_context;

namespace qfleet {

struct HttpResponse {
  int status = 200;
  std::string type = "text/plain; charset=utf-8";
  std::string body;  // Compressed on its way if the client accepts it.
  // Instead of "default-src 'none'": what the page may load and run.
  std::string content_security_policy = {};
};

// Thread-compatible.
class HttpServer {
 public:
  // Called in one of the server's threads, in several at once.
  using Handler = std::function<HttpResponse()>;

  HttpServer() = default;
  ~HttpServer();  // Stops: within about a second, whatever the clients do.
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // Before Start.
  void Handle(const std::string& path, Handler handler);

  // Serves at "host:port" (port 0: a free one) and returns where it listens. At
  // most once. INVALID_ARGUMENT if the address is none, UNAVAILABLE if it is in
  // use.
  absl::StatusOr<std::string> Start(const std::string& address);

 private:
  static int OnRequest(mg_connection* connection);
  static int OnError(mg_connection* connection, int status,
                     const char* message);
  int Answer(mg_connection* connection) const;

  std::map<std::string, Handler> handlers_;  // Constant after Start.
  mg_context* context_ = nullptr;
  std::string host_;
  int port_ = 0;
};

}  // namespace qfleet

#endif  // QFLEET_COMMON_HTTP_SERVER_H_
