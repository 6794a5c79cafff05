# SPDX-License-Identifier: MIT
"""Small programs that make a call with a client and print what came of it.

On standard input they want a JSON object: ``client`` holds the client's options, ``call`` is
sendMail, queueMail, request or forget, ``argument`` a mail, or a whole request for the latter two.
They print a JSON object: ``done`` with what was returned, ``refused`` with the answer, or
``unreachable`` with the text and ``maybeDone``. Those in Python take an object of such objects and
make all the calls at the same time.
"""
