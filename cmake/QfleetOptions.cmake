# Language, warnings, sanitizers, and the tools that make a build quick.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)

set(QFLEET_SANITIZE "" CACHE STRING "Sanitizers, as for -fsanitize=")
option(QFLEET_TORCH "Build what links LibTorch" ON)
option(QFLEET_FUZZ "Build the fuzz targets for libFuzzer (clang only)" OFF)

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()
# Frame pointers and line tables cost little and make `perf` useful.
string(APPEND CMAKE_CXX_FLAGS_RELEASE " -g1 -fno-omit-frame-pointer")

find_program(QFLEET_CCACHE ccache)
if(QFLEET_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${QFLEET_CCACHE})
endif()

find_program(QFLEET_MOLD mold)
if(QFLEET_MOLD)
  add_link_options(-fuse-ld=mold)
endif()

if(QFLEET_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
if(QFLEET_SANITIZE)
  add_compile_options(-fsanitize=${QFLEET_SANITIZE} -fno-omit-frame-pointer
                      -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${QFLEET_SANITIZE})
endif()

# For our code only; generated code and other people's headers are left alone.
set(QFLEET_WARNINGS -Wall -Wextra -Wnon-virtual-dtor -Woverloaded-virtual
                    -Wno-missing-field-initializers -Werror)
# GCC 12 warns falsely of `"a" + string + "b"` (GCC bug 105651).
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  list(APPEND QFLEET_WARNINGS -Wno-restrict)
  # GCC 14 warns of what it has inlined from LibTorch 2.11.
  if(CMAKE_CXX_COMPILER_VERSION VERSION_GREATER_EQUAL 13)
    list(APPEND QFLEET_WARNINGS -Wno-maybe-uninitialized)
  endif()
endif()
