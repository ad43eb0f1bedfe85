# cmake -DPAGE=.../status -DOUT=a.cc -P EmbedPage.cmake
# Writes the source that holds the page, style and scripts in their places.
file(READ ${PAGE}_page.html page)
file(READ ${PAGE}_page.css style)
set(script "\"use strict\";\n")
foreach(part chart page process)
  file(READ ${PAGE}_${part}.js text)
  string(APPEND script "${text}")
endforeach()
string(REPLACE "{{style}}" "${style}" page "${page}")
string(REPLACE "{{script}}" "${script}" page "${page}")
file(WRITE ${OUT} "// Made from ${PAGE}_*.
#include \"common/status_page.h\"

namespace qfleet {

const std::string& StatusPage() {
  static const auto* const page = new std::string(R\"PAGE(${page})PAGE\");
  return *page;
}

}  // namespace qfleet
")
