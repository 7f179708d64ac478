// embed MODEL TEXT...: prints the dense, lexical and ColBERT scores of the first text with every text.
package main

/*
#include <stdlib.h>
#include "trivec.h"
*/
import "C"

import (
	"fmt"
	"os"
	"unsafe"
)

// Gets the address of the error, not the error: the call may not have set it yet when the arguments are evaluated.
func check(status C.trivec_status, place **C.trivec_error) {
	err := *place
	if status != C.TRIVEC_OK {
		fmt.Fprintln(os.Stderr, C.GoString(C.trivec_error_message(err)))
		C.trivec_error_free(err)
		os.Exit(1)
	}
}

func main() {
	if len(os.Args) < 3 {
		os.Exit(2)
	}
	path := C.CString(os.Args[1])
	defer C.free(unsafe.Pointer(path))
	var model *C.trivec_model
	var err *C.trivec_error
	check(C.trivec_model_load(path, nil, &model, &err), &err)
	defer C.trivec_model_free(model)

	// The texts are in C's memory, because memory that Go passes to C must not have pointers to Go's memory.
	count := len(os.Args) - 2
	memory := C.calloc(C.size_t(count), C.size_t(unsafe.Sizeof(C.trivec_text{})))
	defer C.free(memory)
	texts := unsafe.Slice((*C.trivec_text)(memory), count)
	for at, text := range os.Args[2:] {
		data := C.CString(text)
		defer C.free(unsafe.Pointer(data))
		texts[at] = C.trivec_text{data: data, size: C.size_t(len(text))}
	}
	var options C.trivec_encode_options
	C.trivec_encode_options_init(&options)
	options.modes = C.TRIVEC_DENSE | C.TRIVEC_SPARSE | C.TRIVEC_COLBERT
	var result *C.trivec_result
	check(C.trivec_encode(model, &texts[0], C.size_t(count), &options, &result, &err), &err)
	defer C.trivec_result_free(result)

	for at := 0; at < count; at++ {
		var dim, width, rowsA, rowsB C.size_t
		var idsA, idsB *C.uint32_t
		var weightsA, weightsB *C.float
		denseA := C.trivec_result_dense(result, 0, &dim)
		denseB := C.trivec_result_dense(result, C.size_t(at), &dim)
		colbertA := C.trivec_result_colbert(result, 0, &rowsA, &width)
		colbertB := C.trivec_result_colbert(result, C.size_t(at), &rowsB, &width)
		nA := C.trivec_result_sparse(result, 0, &idsA, &weightsA)
		nB := C.trivec_result_sparse(result, C.size_t(at), &idsB, &weightsB)
		fmt.Printf("%.4f %.4f %.4f %s\n", float32(C.trivec_dense_score(denseA, denseB, dim)),
			float32(C.trivec_lexical_score(idsA, weightsA, nA, idsB, weightsB, nB)),
			float32(C.trivec_colbert_score(colbertA, rowsA, colbertB, rowsB, width)), os.Args[at+2])
	}
}
