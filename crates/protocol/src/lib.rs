//! The AWS wire protocols: signatures, codecs, errors and the operation router. Bytes in, bytes out, no sockets.
