"""Documents: files that are translated as a whole, in jobs that outlive the request that began them.

Begin with `jobs`. A `spool` has their files, so that every process of a server finds them; a `process` of its own reads
and writes each document; `translation` sends its texts through the servicer of `dragoman.v1`.
"""
