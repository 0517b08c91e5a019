"""What Atria's speed is measured with, defined before the code that it judges.

Speed is told as a ratio to something that runs in the same rounds, on the same disk, fed by the same sender.
Nothing here imports what it measures, but for `null_receiver` and `header_work`, which run a part of it, and
for what adds rows to catalogues and asks them by itself: `row_writer`, `filled_rows`, `catalogue_million`.

==================  =======================================================================================
`sender`            a process with one blocking socket and one thread per association, TCP_NODELAY; messages
                    are encoded beforehand, each with UIDs of its own; the next is sent when the last was
                    answered with success
`discarder`         the least that a receiver can do: reads and answers, looks at nothing. It shows that the
                    sender is no limit
`write_baseline`    the least that storing can cost: per instance, one after the other, three new files in
                    three folders, each written and fsynced; one thread per association
`s3_baseline`       the least that S3 servers can cost: a bare aiohttp client under uvloop that signs as Atria
                    does, and puts, gets, uploads and copies the same bytes at the same servers
`getter`            a process with one blocking socket that retrieves a study by C-GET and keeps nothing
`finder`            a process that asks for patients' studies by C-FIND, and counts what comes
`row_writer`        a process that adds rows to PostgreSQL catalogues, as a worker does
`population`        the studies that catalogues are filled with, and asked for: each follows from its number
`filler`            fills a PostgreSQL catalogue with a million of them, by COPY
`peers`             DCMTK's storescp, pynetdicom's SCP, Orthanc: as installed, TCP_NODELAY on
`cluster`           Atria, started as an operator starts it
==================  =======================================================================================
"""
