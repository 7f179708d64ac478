# find_package(trivec): the targets trivec::trivec (shared) and trivec::static, of the folder that this file is installed in.
get_filename_component(_trivec_prefix "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
if(NOT TARGET trivec::trivec)
  add_library(trivec::trivec SHARED IMPORTED)
  set_target_properties(trivec::trivec PROPERTIES
    IMPORTED_LOCATION "${_trivec_prefix}/lib/libtrivec.so.1"
    IMPORTED_SONAME "libtrivec.so.1"
    INTERFACE_INCLUDE_DIRECTORIES "${_trivec_prefix}/include")
  add_library(trivec::static STATIC IMPORTED)
  set_target_properties(trivec::static PROPERTIES
    IMPORTED_LOCATION "${_trivec_prefix}/lib/libtrivec.a"
    INTERFACE_INCLUDE_DIRECTORIES "${_trivec_prefix}/include"
    INTERFACE_LINK_LIBRARIES "pthread;dl;m")
endif()
unset(_trivec_prefix)
