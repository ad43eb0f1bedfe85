# LibTorch from pip's CUDA wheels: `torch` in QFLEET_TORCH_DIR, and what it needs
# of CUDA beside it in QFLEET_NVIDIA_DIR. find_package(Torch) would ask for a
# whole CUDA toolkit with its compiler, but nothing here is compiled for a
# device: headers and libraries are enough.

# One folder for each library in the wheels of CUDA 12, one for all in those of 13.
file(GLOB qfleet_nvidia_headers ${QFLEET_NVIDIA_DIR}/*/include
     ${QFLEET_NVIDIA_DIR}/*/include/cccl)
foreach(name c10 c10_cuda torch_cpu torch_cuda torch)
  add_library(${name} SHARED IMPORTED)
  set_target_properties(${name} PROPERTIES
    IMPORTED_LOCATION ${QFLEET_TORCH_DIR}/lib/lib${name}.so
    IMPORTED_NO_SONAME TRUE)
endforeach()
add_library(qfleet_cudart SHARED IMPORTED)
set_target_properties(qfleet_cudart PROPERTIES
  IMPORTED_LOCATION ${qfleet_cudart})

target_include_directories(torch SYSTEM INTERFACE
  ${QFLEET_TORCH_DIR}/include
  ${QFLEET_TORCH_DIR}/include/torch/csrc/api/include
  ${qfleet_nvidia_headers})
# As in the wheel's Caffe2Targets.cmake.
target_compile_definitions(torch INTERFACE
  USE_DISTRIBUTED USE_C10D_GLOO USE_C10D_NCCL USE_RPC USE_TENSORPIPE)
# Kernels register themselves when their library is loaded, whether or not the
# program names anything of it.
target_link_libraries(torch INTERFACE
  -Wl,--push-state,--no-as-needed torch_cpu torch_cuda c10 c10_cuda
  qfleet_cudart -Wl,--pop-state)

# libtorch.so has some of the C++ library's functions in it, of its own compiler's
# version: std::filesystem::remove_all of 2.11 crashes in a program that has the
# rest from the system. The system's come first.
target_link_options(torch INTERFACE
  LINKER:--push-state,--no-as-needed,-lstdc++,--pop-state)

set(TORCH_LIBRARIES torch)
set(TORCH_INSTALL_PREFIX ${QFLEET_TORCH_DIR})
set(Torch_DIR ${QFLEET_TORCH_DIR}/share/cmake/Torch CACHE PATH "" FORCE)
file(STRINGS ${Torch_DIR}/TorchConfigVersion.cmake qfleet_version
     REGEX "set\\(PACKAGE_VERSION ")
string(REGEX REPLACE ".*\"(.*)\".*" "\\1" Torch_VERSION "${qfleet_version}")
