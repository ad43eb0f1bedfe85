// The status page: status_page.html with status_page.css and status_page.js in
// it, put together by the build (cmake/EmbedPage.cmake). One file, which loads
// nothing but /status.json.

#ifndef QFLEET_COMMON_STATUS_PAGE_H_
#define QFLEET_COMMON_STATUS_PAGE_H_

#include <string>

namespace qfleet {

// {{nonce}} stands where its script and style need the response's nonce,
// {{role}} where the process is named.
const std::string& StatusPage();

}  // namespace qfleet

#endif  // QFLEET_COMMON_STATUS_PAGE_H_
