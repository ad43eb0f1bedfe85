# Everything from outside. Why each: docs/design.md, "Dependencies".

find_package(Threads REQUIRED)
# A LibTorch archive on CMAKE_PREFIX_PATH carries a Protobuf of its own, headers
# and compiler; gRPC was built with the system's.
set(QFLEET_NOT_THERE NO_CMAKE_PATH NO_CMAKE_ENVIRONMENT_PATH)
find_program(Protobuf_PROTOC_EXECUTABLE protoc REQUIRED ${QFLEET_NOT_THERE})
find_path(Protobuf_INCLUDE_DIR google/protobuf/service.h REQUIRED
          ${QFLEET_NOT_THERE})
find_package(Protobuf REQUIRED)  # Module mode, and before gRPC.
find_package(gRPC CONFIG REQUIRED)
find_package(OpenSSL REQUIRED)  # The one that gRPC uses.
find_package(absl CONFIG REQUIRED)
find_package(prometheus-cpp CONFIG REQUIRED)
find_package(civetweb CONFIG REQUIRED)
find_package(ZLIB REQUIRED)
find_package(spdlog CONFIG REQUIRED)
find_package(CLI11 CONFIG REQUIRED)
find_package(nlohmann_json CONFIG REQUIRED)
find_package(GTest CONFIG REQUIRED)
find_package(benchmark CONFIG REQUIRED)

# Debian's package has no CMake config.
find_path(XXHASH_INCLUDE_DIR xxhash.h REQUIRED)
find_library(XXHASH_LIBRARY xxhash REQUIRED)
add_library(xxHash::xxhash UNKNOWN IMPORTED)
set_target_properties(xxHash::xxhash PROPERTIES
  IMPORTED_LOCATION ${XXHASH_LIBRARY}
  INTERFACE_INCLUDE_DIRECTORIES ${XXHASH_INCLUDE_DIR})

# LibTorch's headers of Protobuf and fmt would hide those that the rest of the
# program links. A folder that names the system's, searched first, settles it.
# Without LibTorch too, so that objects are the same with and without it.
find_path(QFLEET_FMT_DIR fmt/core.h REQUIRED ${QFLEET_NOT_THERE})
set(QFLEET_FIRST_HEADERS ${CMAKE_BINARY_DIR}/first_headers)
file(MAKE_DIRECTORY ${QFLEET_FIRST_HEADERS})
file(CREATE_LINK ${Protobuf_INCLUDE_DIR}/google
     ${QFLEET_FIRST_HEADERS}/google SYMBOLIC)
file(CREATE_LINK ${QFLEET_FMT_DIR}/fmt
     ${QFLEET_FIRST_HEADERS}/fmt SYMBOLIC)
include_directories(BEFORE SYSTEM ${QFLEET_FIRST_HEADERS})

if(QFLEET_TORCH)
  # Debian's LibTorch, or whatever CMAKE_PREFIX_PATH names.
  find_path(QFLEET_TORCH_DIR share/cmake/Torch/TorchConfig.cmake)
  set(QFLEET_NVIDIA_DIR ${QFLEET_TORCH_DIR}/../nvidia)
  file(GLOB qfleet_cudart ${QFLEET_NVIDIA_DIR}/*/lib/libcudart.so.*)
  if(EXISTS ${QFLEET_TORCH_DIR}/lib/libtorch_cuda.so AND qfleet_cudart)
    include(QfleetTorchWheel)
  else()
    find_package(Torch REQUIRED)
  endif()
  message(STATUS "LibTorch ${Torch_VERSION} (${TORCH_INSTALL_PREFIX})")

  # What LibTorch's processes allocate with, if it is there: a tensor is made and
  # freed in each operation (docs/results.md). A sanitizer has its own.
  find_library(QFLEET_TCMALLOC
    NAMES tcmalloc_minimal libtcmalloc_minimal.so.4 ${QFLEET_NOT_THERE})
  add_library(qfleet_allocator INTERFACE)
  if(QFLEET_TCMALLOC AND NOT QFLEET_SANITIZE)
    target_link_libraries(qfleet_allocator INTERFACE ${QFLEET_TCMALLOC})
    message(STATUS "allocator of LibTorch's processes: ${QFLEET_TCMALLOC}")
  endif()

  # The imported target `torch` with its definitions and headers.
  add_library(qfleet_torch INTERFACE)
  target_link_libraries(qfleet_torch INTERFACE ${TORCH_LIBRARIES})
  # A CUDA build of LibTorch: model/device.cc then uses it.
  if(TARGET torch_cuda)
    target_compile_definitions(qfleet_torch INTERFACE QFLEET_CUDA)
    message(STATUS "CUDA: yes, learner.device = cuda")
  else()
    message(STATUS "CUDA: no")
  endif()
endif()
