def handler(request, context):
    # A real one would send a mail or a chat message with a link that ends in SendTaskSuccess.
    print(f"{request['who']} asks for {request['what']}")
    print("TOKEN", request["token"])
