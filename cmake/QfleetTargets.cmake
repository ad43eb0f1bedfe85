# The kinds of target. Sources are named relative to the calling folder;
# headers are included by their path from the top.

include(GoogleTest)

# qfleet_library(NAME SRCS a.cc ... DEPS lib ...)
function(qfleet_library name)
  cmake_parse_arguments(ARG "" "" "SRCS;DEPS" ${ARGN})
  add_library(${name} STATIC ${ARG_SRCS})
  target_include_directories(${name} PUBLIC ${CMAKE_SOURCE_DIR})
  target_compile_options(${name} PRIVATE ${QFLEET_WARNINGS})
  target_link_libraries(${name} PUBLIC ${ARG_DEPS})
endfunction()

# qfleet_binary(NAME SRCS main.cc ... DEPS lib ...): build/PRESET/bin/NAME
function(qfleet_binary name)
  cmake_parse_arguments(ARG "" "" "SRCS;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SRCS})
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR})
  target_compile_options(${name} PRIVATE ${QFLEET_WARNINGS})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS})
endfunction()

# qfleet_plugin(NAME SRCS a.c ... [DEFINES NAME[=VALUE] ...]): an environment in a
# shared library, build/PRESET/plugins/NAME.so
function(qfleet_plugin name)
  cmake_parse_arguments(ARG "" "" "SRCS;DEFINES" ${ARGN})
  add_library(${name} MODULE ${ARG_SRCS})
  set_target_properties(${name} PROPERTIES
    PREFIX "" C_STANDARD 99 C_EXTENSIONS OFF
    LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/plugins)
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR})
  target_compile_options(${name} PRIVATE -Wall -Wextra -Wpedantic -Werror)
  target_compile_definitions(${name} PRIVATE ${ARG_DEFINES})
endfunction()

# qfleet_test(NAME SRCS a_test.cc ... DEPS lib ... [LABELS grpc torch ...]
#             [TIMEOUT seconds]): each TEST becomes a test of ctest.
function(qfleet_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "SRCS;DEPS;LABELS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  if(NOT ARG_LABELS)
    set(ARG_LABELS unit)
  endif()
  add_executable(${name} ${ARG_SRCS})
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR})
  target_compile_options(${name} PRIVATE ${QFLEET_WARNINGS})
  target_compile_definitions(${name} PRIVATE
    QFLEET_SOURCE_DIR="${CMAKE_SOURCE_DIR}"
    QFLEET_BIN_DIR="${CMAKE_BINARY_DIR}/bin")
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} GTest::gmock_main)
  gtest_discover_tests(${name}
    DISCOVERY_TIMEOUT 60
    TEST_PREFIX ${name}.
    PROPERTIES TIMEOUT ${ARG_TIMEOUT} LABELS "${ARG_LABELS}")
endfunction()
